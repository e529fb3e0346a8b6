"""Model of a run over photos: without torch for a few of them, whose import takes longer than they do."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

from tokenface.core.threads import given_threads
from tokenface.deploy.graph_names import AUTO
from tokenface.errors import TokenFaceError
from tokenface.light import LightModel

if TYPE_CHECKING:
    from tokenface.inference.photo_model import PhotoModel

FEW_PHOTOS = 8
"""Up to so many photos are done before torch, and what it needs, has been imported."""

logger = logging.getLogger("tokenface")


def open_model(
    weights: str | None, device: str, runtime: str, precision: str, photos: int, *, photos_only: bool
) -> PhotoModel:
    """Weights, ready for so many photos. All models give the same faces.

    Args:
        weights, device, runtime, precision: as `tokenface.load`.
        photos_only: that nothing is asked for which needs torch (refinement, hair).
    Raises:
        CheckpointError, ConfigError, TokenFaceError: as `tokenface.load`.
    """
    if runtime == AUTO and precision == "fp32" and device in ("auto", "cpu") and photos_only:
        light = _light(weights) if photos <= FEW_PHOTOS or not has_torch() else None
        if light is not None:
            return light
    from tokenface.model import Reconstructor

    # another runtime's graph is opened after torch's network: too late for a few photos
    few = runtime == AUTO and precision == "fp32" and photos <= FEW_PHOTOS
    return Reconstructor.load(weights, device, "torch" if few else runtime, precision)


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _light(weights: str | None) -> LightModel | None:
    """None: these weights, or this installation, need torch."""
    try:
        return LightModel(weights, given_threads())
    except TokenFaceError as error:
        if not has_torch():
            raise
        logger.debug("torch is needed: %s", error)
    except Exception as error:  # a broken installation of a runtime fails in its own ways
        if not has_torch():
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        logger.warning("onnxruntime is installed but not used (%s); torch takes its place", reason)
    return None
