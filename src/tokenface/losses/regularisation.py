"""Keeps coefficients near their prior (Eq. 11)."""

from __future__ import annotations

from torch import Tensor

from tokenface.network.components import FaceParameters


def regularisation_loss(parameters: FaceParameters, shape: float, expression: float, texture: float) -> Tensor:
    """ω_β‖β‖² + ω_ψ‖ψ‖² + ω_α‖α‖² → [B]."""
    p = parameters
    return (
        shape * p.shape.square().sum(-1)
        + expression * p.expression.square().sum(-1)
        + texture * p.texture.square().sum(-1)
    )


def range_loss(expression: Tensor, low: float, high: float) -> Tensor:
    """How far expression weights leave the range that the head model allows: [B, E] → [B]."""
    return ((expression - high).clamp_min(0) + (low - expression).clamp_min(0)).sum(-1)
