"""Visibility of landmarks: back-facing, self-occluded and covered points."""

from __future__ import annotations

import torch
from torch import Tensor


def visible_points(points: Tensor, depth: Tensor, cover: Tensor, cover_depth: Tensor, slack: Tensor) -> Tensor:
    """Depth test against the head and against what is in front of it.

    A point on the silhouette is as near as any pixel around it, so the farthest covered one of the 3 × 3 pixels is
    asked.

    Args:
        points: [B, K, 3] crop NDC with depth.  depth: [B, S, S] of the head, inf where empty.
        cover: [B, S, S] opacity and cover_depth: [B, S, S] depth of hair, glasses, hands.  slack: [B] depth tolerance.
    Returns:
        [B, K] bool.
    """
    size = depth.shape[-1]
    pixel = ((points[..., :2] + 1) * (size / 2)).floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1)
    pixel = pixel.clamp(0, size - 1)
    flat, farthest = depth.flatten(1), torch.full_like(points[..., 2], -torch.inf)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            index = (pixel[..., 1] + dy).clamp(0, size - 1) * size + (pixel[..., 0] + dx).clamp(0, size - 1)
            here = flat.gather(1, index)
            farthest = torch.maximum(farthest, torch.where(here.isinf(), farthest, here))
    farthest = torch.where(farthest.isinf(), torch.inf, farthest)
    index = pixel[..., 1] * size + pixel[..., 0]
    covered = (cover.flatten(1).gather(1, index) > 0.5) & (cover_depth.flatten(1).gather(1, index) < points[..., 2])
    return inside & (points[..., 2] < farthest + slack[:, None]) & ~covered
