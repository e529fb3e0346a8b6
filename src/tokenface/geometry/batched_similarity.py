"""Similarity transforms between batches of corresponding points, in torch: in two dimensions with gradients, and the
rotation in three."""

from __future__ import annotations

import torch
from torch import Tensor


def planar_similarity(source: Tensor, target: Tensor) -> Tensor:
    """The similarity without reflection that carries source onto target in the least-squares sense.

    Args:
        source, target: [B, N, 2].
    Returns:
        [B, 2, 3]; applies to columns (x, y, 1).
    """
    centre_s, centre_t = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - centre_s, target - centre_t
    norm = s.square().sum((1, 2)).clamp_min(1e-12)
    a = (s * t).sum((1, 2)) / norm
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], dim=1)
    offset = centre_t.squeeze(1) - torch.einsum("bij,bj->bi", linear, centre_s.squeeze(1))
    return torch.cat([linear, offset[..., None]], dim=-1)


def best_rotation(source: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Rotations [B, 3, 3] of centred points [B, V, 3] onto centred points [B, V, 3], weighted by [V]; no gradient."""
    with torch.no_grad():
        covariance = torch.einsum("bvi,bvj,v->bij", target.double(), source.double(), weights.double())
        u, _, vh = torch.linalg.svd(covariance)
        sign = torch.linalg.det(u @ vh)
        u = torch.cat([u[..., :2], u[..., 2:] * sign[:, None, None]], dim=-1)
        return (u @ vh).to(source.dtype)
