"""Facts in a checkpoint's header, read and checked without its weights; what predictions depend on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tokenface.core.fingerprint import content_hash
from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError, TokenFaceError
from tokenface.geometry.crop import TEST_SCALE
from tokenface.head.registry import head_path
from tokenface.version import __version__
from tokenface.weights import COMPANIONS, companion, find_weights

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


CALIBRATED = "confidence"
"""The companion that says how far to trust a prediction, and changes none."""


def model_facts(name_or_path: str | os.PathLike | None = None) -> dict[str, Any]:
    """Facts for `tokenface.core.fingerprint`, without loading the network.

    Companions of another kind of run (temporal transformers) are left out.

    Raises:
        CheckpointError: no such weights.
    """
    path = find_weights(name_or_path)
    facts = {"software": __version__, "weights": content_hash(path)}
    try:
        needed = read_metadata(path)["head"]
        facts["head"] = str(needed["geometry_hash"])
        facts["head file"] = content_hash(head_path(str(needed["name"])))
    except (TokenFaceError, KeyError, TypeError):  # loading the weights says what is wrong with them
        facts.setdefault("head", "")
    beside = {kind: companion(path, kind) for kind in COMPANIONS if "temporal" not in kind}
    return facts | {kind: content_hash(file) for kind, file in beside.items() if file.is_file()}


def calibration_facts(name_or_path: str | os.PathLike | None = None) -> dict[str, Any]:
    """Dependencies of a confidence calibration: the weights, the head's geometry, and what corrects the
    predictions, whatever version of the software made it."""
    facts = model_facts(name_or_path)
    return {name: value for name, value in facts.items() if name not in ("software", "head file", CALIBRATED)}
