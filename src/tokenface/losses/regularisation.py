"""Regularisation of coefficients towards their prior (Eq. 11)."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.parameters import FaceParameters

REST_SPREAD = 0.1
"""Standard deviations of an action within which it counts as at rest."""


def regularisation_loss(parameters: FaceParameters, shape: float, expression: float, texture: float) -> Tensor:
    """`ω_β‖β‖² + ω_ψ‖ψ‖² + ω_α‖α‖²` (Eq. 11) → [B]."""
    p = parameters
    return (
        shape * p.shape.square().sum(-1)
        + expression * p.expression.square().sum(-1)
        + texture * p.texture.square().sum(-1)
    )


def coefficient_loss(predicted: Tensor, truth: Tensor, importance: Tensor) -> Tensor:
    """Weighted mean squared error of unit-variance coefficients; predicting 0 costs 1 on average.

    Unlike a vertex L1, its gradient grows with the error of each mode, and modes that cannot be seen shrink to 0.

    Args:
        predicted, truth: [B, S].  importance: [S], not negative.
    Returns:
        [B].
    """
    return ((predicted - truth).square() * importance).sum(-1) / importance.sum()


def standardised_loss(predicted: Tensor, truth: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error in units of each column's own spread, so that small actions count as much as large ones.

    Args:
        predicted, truth: [B, K].  spread: [K] standard deviation over the population.
    Returns:
        [B]; 1 for a prediction of the mean.
    """
    return ((predicted - truth) / spread).square().mean(-1)


def sparse_loss(predicted: Tensor, truth: Tensor, spread: Tensor) -> Tensor:
    """Huber loss in units of each column's spread, linear beyond REST_SPREAD: minimised by the median.

    Most actions are at rest in most photos. The mean of what an action might be is never 0, the median is.

    Args:
        predicted, truth: [B, K].  spread: [K] standard deviation over the population.
    Returns:
        [B, K].
    """
    error = ((predicted - truth) / spread).abs()
    return torch.where(error < REST_SPREAD, error.square() / (2 * REST_SPREAD), error - REST_SPREAD / 2)


def range_loss(expression: Tensor, low: float, high: float) -> Tensor:
    """Excess of expression weights over the head model's range: [B, E] → [B]."""
    return ((expression - high).clamp_min(0) + (low - expression).clamp_min(0)).sum(-1)
