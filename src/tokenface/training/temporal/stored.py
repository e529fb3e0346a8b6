"""Dataclasses of tensors in one `.npz`, several after each other: what the image model saw of a clip."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from tokenface.core.arrays import open_arrays
from tokenface.errors import CheckpointError

T = TypeVar("T")


def packed(rows: Sequence[Any]) -> bytes:
    """Instances of a dataclass whose fields are all tensors."""
    buffer = io.BytesIO()
    arrays = {f"{index}.{f.name}": getattr(row, f.name).numpy() for index, row in enumerate(rows) for f in fields(row)}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpacked(path: Path, kind: type[T]) -> Iterator[T]:
    """What `packed` made of instances of `kind`.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        with open_arrays(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"features '{path}' are damaged ({error}); delete that file") from error
    for index in range(len({name.split(".")[0] for name in arrays})):
        yield kind(**{f.name: arrays[f"{index}.{f.name}"] for f in fields(kind)})  # type: ignore[arg-type]
