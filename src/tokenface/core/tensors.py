"""Safetensors and other weights files, of bounded size, read without executing anything."""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from tokenface.core.files import check_regular
from tokenface.core.halves import MARK
from tokenface.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 64 << 30


@contextmanager
def open_tensors(path: str | os.PathLike, framework: Literal["pt", "np"] = "pt") -> Iterator[Any]:
    """`safe_open` of a regular file; of one with its halves apart (`halves`), as if they were not.

    Raises:
        OSError: as `check_regular`, or the system cannot map the file.  SafetensorError: no safetensors file.
    """
    check_regular(path, MAX_BYTES)
    with ExitStack() as opened:
        try:
            file = opened.enter_context(safe_open(os.fspath(path), framework=framework))
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "there is not enough memory to map it", os.fspath(path)) from error
        yield _Joined(file, framework) if MARK in (file.metadata() or {}) else file


class _Joined:
    """`safe_open`'s file whose U8 tensors [2, ...] are float16 [...]."""

    def __init__(self, file: Any, framework: str) -> None:
        self._file, self._framework = file, framework

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def metadata(self) -> dict[str, str]:
        return {key: value for key, value in self._file.metadata().items() if key != MARK}

    def get_tensor(self, name: str) -> Any:
        found = self._file.get_tensor(name)
        if str(found.dtype).removeprefix("torch.") != "uint8":
            return found
        import numpy as np

        whole = np.ascontiguousarray(np.moveaxis(np.asarray(found), 0, -1)).view(np.float16)[..., 0]
        if self._framework == "np":
            return whole
        import torch

        return torch.from_numpy(whole.copy())


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, without executing anything in it.

    Raises:
        CheckpointError: missing, unreadable, a TorchScript archive, or a pickle with more than tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at '{path}'; download them first (FaRL and CLIP are free to download)")
    if path.suffix == ".safetensors":
        try:
            with open_tensors(path) as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is no readable safetensors file ({error}); download it again") from error
    if _is_torchscript(path):
        raise CheckpointError(
            f"'{path}' is a TorchScript program, which is not executed here; if you trust it, save its tensors with "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth') and give that file"
        )
    import torch

    try:
        check_regular(path, MAX_BYTES)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"'{path}' cannot be read as plain tensors ({reason}); expected a state dict saved by torch.save"
        ) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise CheckpointError(f"'{path}' holds a {type(content).__name__}; expected a state dict")
    return {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):  # the reader of tensors says what is wrong
        return False
