"""What the predictions of some weights depend on: the weights, their head model, what lies beside them, the version."""

from __future__ import annotations

import os
from typing import Any

from tokenface.core.fingerprint import content_hash
from tokenface.errors import TokenFaceError
from tokenface.head.registry import head_path
from tokenface.inference.checkpoint import read_metadata
from tokenface.version import __version__
from tokenface.weights import COMPANIONS, companion, find_weights

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
    """What a calibration of the confidence depends on: the weights, the head's geometry, and what corrects the
    predictions, whatever version of the software made it."""
    facts = model_facts(name_or_path)
    return {name: value for name, value in facts.items() if name not in ("software", "head file", CALIBRATED)}
