"""Losses on vertices with known truth: the paper's mesh loss (Eq. 3) and its forms free of scale or pose."""

from __future__ import annotations

import torch
from torch import Tensor


def mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Region-weighted L1 (Eq. 3).

    Args:
        predicted, truth: [B, V, 3], metres.  weights: [V], sum to 1.
    Returns:
        [B], metres.
    """
    return ((predicted - truth).abs().sum(-1) * weights).sum(-1)


def scale_free_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mesh loss after the best scale and translation of the *prediction onto the truth*.

    Scale and depth cannot be seen in a photo; the reverse direction would reward shrinking to a point.
    """
    p, t = _centred(predicted, weights), _centred(truth, weights)
    scale = (p * t * weights[:, None]).sum((1, 2)) / (p.square() * weights[:, None]).sum((1, 2)).clamp_min(1e-12)
    return mesh_loss(scale[:, None, None] * p, t, weights)


def aligned_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mesh loss after the best similarity (rotation too) of the prediction onto the truth, as NoW measures.

    The rotation is found without gradient: at the optimum it does not change the squared error to first order.
    """
    p, t = _centred(predicted, weights), _centred(truth, weights)
    with torch.no_grad():
        covariance = torch.einsum("bvi,bvj,v->bij", t.double(), p.double(), weights.double())
        u, _, vh = torch.linalg.svd(covariance)
        sign = torch.linalg.det(u @ vh)
        u = torch.cat([u[..., :2], u[..., 2:] * sign[:, None, None]], dim=-1)
        rotation = (u @ vh).to(p.dtype)
    return scale_free_mesh_loss(p @ rotation.transpose(1, 2), t, weights)


def _centred(vertices: Tensor, weights: Tensor) -> Tensor:
    return vertices - (vertices * weights[:, None]).sum(1, keepdim=True) / weights.sum()
