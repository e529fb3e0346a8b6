"""A pretended accelerator: tensors that say they lie on it, hold real numbers, and tell what a real one would.

Inside `PretendDevice` everything that is made on or moved to `DEVICE` is a `Pretended` tensor. An operation that mixes
it with a tensor of the CPU fails, as it would on a GPU, and whatever would make the CPU wait for the device (`.item()`,
`nonzero`, a mask as an index, a copy to the CPU, a blocking copy to the device) is written down with the place in the
package that asked for it. Code that looks at `device.type` takes the way it takes on a GPU.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

import tokenface

DEVICE = torch.device("lazy")
"""A device type of torch without an implementation: its gradients run in the calling thread."""
PACKAGE = Path(tokenface.__file__).parent
WAITS = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "_linalg_svd", "_linalg_eigh", "_linalg_check_errors",
}  # fmt: skip
"""Operations whose answer the CPU needs before it can go on."""
TOGETHER = {"cat", "stack", "mm", "bmm", "addmm", "index_select", "gather", "index_add", "index_add_", "index_copy"}
"""Operations that do not even take a lone number from the CPU."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class MixedDevicesError(RuntimeError):
    """An operation on tensors of two devices."""


class Pretended(torch.Tensor):
    """A tensor on `DEVICE`; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Pretended:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    def new_tensor(self, values, dtype=None, device=None):
        """Torch makes it behind the modes' back; it is a copy of fresh numbers to the device all the same."""
        return torch.tensor(values, dtype=dtype or self.dtype).to(device or self.device)

    def __getitem__(self, index):
        return super().__getitem__(_as_tensors(index))

    def __setitem__(self, index, value):
        super().__setitem__(_as_tensors(index), value)

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, None)


class PretendDevice(TorchDispatchMode):
    """`waits`: (operation, place) → how often; `counting` switches the record on and off."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.counting = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self.waits if self.counting else None)

    def places(self) -> dict[str, Counter[str]]:
        """Operation → place → how often."""
        found: dict[str, Counter[str]] = {}
        for (operation, place), count in self.waits.items():
            found.setdefault(operation, Counter())[place] += count
        return found


def real(value: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, wherever it says it lies."""
    return value.inner if isinstance(value, Pretended) else value


def _run(func, args, kwargs, waits: Counter[tuple[str, str]] | None):
    name = func.overloadpacket.__name__
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = [value for value in tensors if isinstance(value, Pretended)]
    asked = kwargs.get("device")
    goes = asked is not None and torch.device(asked).type == DEVICE.type
    if not there and not goes:
        return func(*args, **kwargs)
    if name == "_fused_sdp_choice":
        return 0  # the plain product of matrices, which every device has
    kind = _wait(name, func, args, kwargs, tensors, there, goes)
    if kind is not None and waits is not None:
        waits[kind, _place()] += 1
    if kind is None or kind.startswith("index"):
        _check(name, func, tensors, there)
    given = {**kwargs, "device": "cpu"} if asked is not None else kwargs
    answer = func(*tree_map(_bare, args), **tree_map(_bare, given))
    lands = goes if asked is not None else bool(there)
    if name == "copy_":
        return args[0]
    if not lands:
        # a copy to the CPU is a copy, also where both lie in the same memory here
        return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, answer)
    answer = tree_map(lambda x: Pretended(x) if isinstance(x, torch.Tensor) else x, answer)
    return return_and_correct_aliasing(func, args, kwargs, answer) if there else answer


def _wait(name, func, args, kwargs, tensors, there, goes) -> str | None:
    """What the CPU would wait for; None if nothing."""
    if name in WAITS:
        return name
    if name == "repeat_interleave" and func._overloadname == "Tensor" and kwargs.get("output_size") is None:
        return name
    if name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            return "index by a mask"
        if any(not isinstance(index, Pretended) for index in indices):
            return "index from the CPU"
        return None
    if name in ("_to_copy", "copy_"):
        source = args[1] if name == "copy_" else args[0]
        target = isinstance(args[0], Pretended) if name == "copy_" else goes if "device" in kwargs else bool(there)
        if isinstance(source, Pretended) == target or source.numel() == 0:
            return None
        blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if not target:
            return "copy to the CPU"
        return "blocking copy to the device" if blocking else None
    return None


def _check(name, func, tensors, there) -> None:
    """Two devices in one operation; lone numbers may come from the CPU where operations are by element, indices too."""
    if name in INDEXING:
        return
    here = [value for value in tensors if not isinstance(value, Pretended)]
    together = name in TOGETHER
    if there and any(together or value.dim() for value in here):
        shapes = ", ".join(str(tuple(value.shape)) for value in here)
        raise MixedDevicesError(f"{_place()}: {func} mixes the device with CPU tensors of shape {shapes}")


def _as_tensors(index):
    """Lists as the tensors that torch makes of them behind the modes' back, on the CPU."""
    if isinstance(index, tuple):
        return tuple(_as_tensors(part) for part in index)
    return torch.tensor(index) if isinstance(index, list) else index


def _bare(value):
    return value.inner if isinstance(value, Pretended) else value


def _place() -> str:
    """`folder/file.py:function` of the innermost frame of the package."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE).as_posix()}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
