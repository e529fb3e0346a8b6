"""Temporal transformer of given image weights: one file beside them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from tokenface.errors import CheckpointError
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer
from tokenface.network.temporal_checkpoint import load_temporal, temporal_path
from tokenface.weights import find_weights

logger = logging.getLogger("tokenface")

Temporal = Literal["auto", "off", "causal", "centred"]
MODES = ("auto", "off", "causal", "centred")


def choose_temporal(
    predictor: Predictor,
    temporal: Temporal = "auto",
    path: str | Path | None = None,
    preferred: Literal["causal", "centred"] = "centred",
) -> TemporalTransformer | None:
    """The module for a mode; None for "off", and for "auto" where the image weights have none that fits (a warning
    says so) or the network that runs gives no tokens.

    Args:
        path: the file, which is then taken or refused; "auto" takes its mode. None: beside the image weights,
            `<name>.<mode>.temporal.safetensors`.
        preferred: what "auto" takes if it is there.
    Raises:
        CheckpointError: an unknown mode, no such file, or one that was trained for other image weights.
    """
    if temporal not in MODES:
        raise CheckpointError(f"--temporal is one of {', '.join(MODES)}, got '{temporal}'")
    if path is not None:
        if temporal == "off":
            raise CheckpointError(f"--temporal off uses no temporal weights, and '{path}' is given; leave one out")
        return load_temporal(path, predictor.origin.weights_hash, None if temporal == "auto" else temporal)
    if temporal == "off" or (temporal == "auto" and not predictor.has_tokens):
        return None  # exported networks give no tokens
    mode = preferred if temporal == "auto" else temporal
    beside = _beside(predictor, mode)
    if beside is None or not beside.is_file():
        if temporal == "auto":
            logger.warning(
                "the weights '%s' come without a %s temporal transformer: each frame is predicted by itself; train "
                "one with 'tokenface train-temporal', name one with --temporal-weights, or say --temporal off",
                predictor.origin.weights,
                mode,
            )
            return None
        raise CheckpointError(
            f"the weights '{predictor.origin.weights}' come without a {mode} temporal transformer; train one with "
            f"'tokenface train-temporal --mode {mode}', or use --temporal off"
        )
    try:
        return load_temporal(beside, predictor.origin.weights_hash, mode)
    except CheckpointError as error:
        if temporal != "auto":
            raise
        logger.warning("%s; each frame is predicted by itself", error)
        return None


def _beside(predictor: Predictor, mode: str) -> Path | None:
    if predictor.path is not None:
        return temporal_path(predictor.path, mode)
    try:
        return temporal_path(find_weights(predictor.origin.weights), mode)
    except CheckpointError:
        return None
