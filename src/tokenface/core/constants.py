"""Small fixed tensors, brought to a device once: every upload of fresh numbers makes the CPU wait for a GPU."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def constant(values: Any, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.tensor(values, device=…)`, the same tensor at every call; it must not be changed in place.

    Not for graphs that are exported: the tensor would be one of the tracer's.

    Args:
        values: numbers, or lists and tuples of them.
    """
    return _uploaded(_frozen(values), torch.device(device), dtype)


def placed(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of a module on a device, copied there once; it must not be changed in place."""
    device = torch.device(device)
    there = tensor.device.type == device.type and device.index in (None, tensor.device.index)
    return tensor if there else _copied(tensor, device)


@lru_cache(maxsize=512)
def _uploaded(values: Any, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    with torch.inference_mode(False):  # or autograd could not use it later
        return torch.tensor(values, dtype=dtype, device="cpu").to(device)


@lru_cache(maxsize=512)
def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return tensor.to(device)


def _frozen(values: Any) -> Any:
    return tuple(_frozen(value) for value in values) if isinstance(values, list | tuple) else values
