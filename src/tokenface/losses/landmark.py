"""Landmark losses on 68 points: position (Sec. 3.2.2), eyelid and lip offsets (Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.core.device import constant
from tokenface.geometry.landmarks import LID_PAIRS, LIP_PAIRS


def landmark_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean L1 distance of the projected points (Sec. 3.2.2); invisible points have weight 0.

    Args:
        predicted, truth: [B, N, 2], crop NDC.  weights: [N] or [B, N], point weight × visibility.
    Returns:
        [B], crop half-widths.
    """
    weights = weights.expand(predicted.shape[:2])
    return ((predicted - truth).abs().sum(-1) * weights).sum(-1) / weights.sum(-1).clamp_min(1e-6)


def eyelid_loss(predicted: Tensor, truth: Tensor, visible: Tensor | None = None) -> Tensor:
    """Offsets between upper and lower lid points, `mean_(i,j)∈E ‖k_i − k_j − sΠ(V_i − V_j)‖₁` (Eq. 7).

    Args:
        predicted, truth: [B, 68, 2], crop NDC.  visible: [B, 68] weights; a pair counts if both points do. None: all.
    Returns:
        [B], crop half-widths.
    """
    return _pair_offset_loss(predicted, truth, LID_PAIRS, visible)


def lip_loss(predicted: Tensor, truth: Tensor, visible: Tensor | None = None) -> Tensor:
    """Offsets between upper and lower inner lip points, `mean_(i,j)∈L ‖k_i − k_j − sΠ(V_i − V_j)‖₁` (Eq. 7).

    Arguments and result as `eyelid_loss`.
    """
    return _pair_offset_loss(predicted, truth, LIP_PAIRS, visible)


def _pair_offset_loss(predicted: Tensor, truth: Tensor, pairs, visible: Tensor | None) -> Tensor:
    upper, lower = constant(pairs, device=predicted.device).T.contiguous()
    difference = predicted - truth
    offset = difference.index_select(1, upper) - difference.index_select(1, lower)
    length = offset.abs().sum(-1)
    if visible is None:
        return length.mean(-1)
    seen = visible.to(length.dtype).expand(predicted.shape[:2])
    weight = seen.index_select(1, upper) * seen.index_select(1, lower)
    return (length * weight).sum(-1) / weight.sum(-1).clamp_min(1e-6)


def landmark_uncertainty_loss(predicted: Tensor, truth: Tensor, log_sigma: Tensor) -> Tensor:
    """Laplace negative log-likelihood of the distances that were made; trains log_sigma alone.

    Args:
        predicted, truth: [B, 68, 2], crop NDC.  log_sigma: [B, 68], log of the expected distance.
    Returns:
        [B].
    """
    distance = (predicted - truth).norm(dim=-1).detach()
    return (distance * torch.exp(-log_sigma) + log_sigma).mean(-1)
