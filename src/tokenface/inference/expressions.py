"""A face's expression in ARKit's words."""

from __future__ import annotations

from tokenface.head.model import HeadModel
from tokenface.network.components import FaceParameters


def arkit_weights(head: HeadModel, parameters: FaceParameters) -> dict[str, float] | None:
    """The 52 ARKit coefficients in [0, 1] of one face; None where the head model does not speak ARKit."""
    return None
