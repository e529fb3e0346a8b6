"""Devices: which one a network runs on, and small constant tensors uploaded to each once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tokenface.errors import TokenFaceError


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1", "mps" → a device that is there.

    Raises:
        TokenFaceError: an unknown device, or one that this machine lacks.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TokenFaceError(f"device '{device}' is not available here; use auto, cpu, cuda or mps") from error
    return chosen


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
