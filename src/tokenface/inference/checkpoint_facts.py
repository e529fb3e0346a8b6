"""Facts in a checkpoint's header, read and checked without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import TEST_SCALE

FORMAT = "tokenface-checkpoint-1"
"""Key of the facts in the header."""


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The JSON facts of a checkpoint: network, head, crop, training, metrics; cheap, weights are not read.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint '{path}' {what}; expected a .safetensors file made by 'tokenface train'")
    try:
        with open_tensors(path, "np") as file:
            header = file.metadata() or {}
            if FORMAT not in header:
                raise CheckpointError(
                    f"'{path}' is a safetensors file, but not a tokenface checkpoint; expected one made by "
                    "'tokenface train'"
                )
            facts = json.loads(header[FORMAT])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"checkpoint '{path}' has malformed metadata; download or train it again")
    return facts


def damaged(path: str | Path, error: Exception) -> CheckpointError:
    """What to say of a file that cannot be read."""
    return CheckpointError(
        f"checkpoint '{path}' is damaged or no safetensors file ({error}); download or train it again"
    )


def check_head_name(path: str | Path, name: str) -> None:
    """Raises CheckpointError unless it is a bare name: a checkpoint must not make us open paths of its choosing."""
    if Path(name).name != name or name.endswith(".safetensors"):
        raise CheckpointError(f"checkpoint '{path}' names an impossible head model {name!r}; give the head model")


def crop_scale(path: str | Path, facts: Mapping[str, Any]) -> float:
    """Size of the crops over the box of the landmarks.

    Raises:
        CheckpointError: an impossible one.
    """
    scale = facts.get("crop", TEST_SCALE)
    if not isinstance(scale, int | float) or not 0.5 < scale < 4:
        raise CheckpointError(f"'{path}' has an impossible crop scale {scale!r}; expected about {TEST_SCALE}")
    return float(scale)
