"""Tensors of a weights file of somebody else, read without executing anything in it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tokenface.errors import CheckpointError


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
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is no readable safetensors file ({error}); download it again") from error
    if _is_torchscript(path):
        raise CheckpointError(
            f"'{path}' is a TorchScript program, which is not executed here; if you trust it, save its tensors with "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pth') and give that file"
        )
    try:
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
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
