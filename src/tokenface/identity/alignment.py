"""Five points of a face brought to the places that recognition networks were trained with, differentiably."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.geometry.similarity import planar_similarity

ARCFACE_POINTS = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""[5, 2] ArcFace's places of the eye centres, nose tip and mouth corners, pixels of a 112 × 112 crop whose pixel
centres are integers; the subject's right eye first, which lies on the left of the picture."""


def five_points(landmarks68: Tensor) -> Tensor:
    """Eye centres, nose tip, mouth corners from the iBUG points: [B, 68, 2] → [B, 5, 2]."""
    return torch.stack(
        [
            landmarks68[:, 36:42].mean(1),
            landmarks68[:, 42:48].mean(1),
            landmarks68[:, 30],
            landmarks68[:, 48],
            landmarks68[:, 54],
        ],
        dim=1,
    )


def aligned_faces(image: Tensor, landmarks68: Tensor, places: Tensor, size: int) -> Tensor:
    """Crops as recognition networks want them.

    Args:
        image: [B, 3, S, S] in [0, 1].  landmarks68: [B, 68, 2], NDC of the image; no gradient flows through them.
        places: [5, 2] where the five points shall be, pixels of the result, which spans 0 … size.
        size: side of the result, pixels.
    Returns:
        [B, 3, size, size]; black beyond the image, as the networks' own alignment leaves it.
    """
    return faces_at(image, five_points(landmarks68.detach()), places, size)


def faces_at(image: Tensor, points: Tensor, places: Tensor, size: int) -> Tensor:
    """`aligned_faces` by the five points themselves: [B, 5, 2], NDC of the image."""
    points = points.to(image.dtype)
    template = (places.to(image, non_blocking=True) * (2 / size) - 1).expand_as(points)
    to_image = planar_similarity(template, points)
    grid = F.affine_grid(to_image, [len(image), 3, size, size], align_corners=False)
    # a crop that shrinks is averaged first: bilinear sampling alone would alias
    shrink = int((to_image[:, :, :2].square().sum((1, 2)) / 2).sqrt().median() * image.shape[-1] / size)
    if shrink >= 2:
        image = (
            F.avg_pool2d(image, shrink, ceil_mode=False) if image.shape[-1] % shrink == 0 else _pooled(image, shrink)
        )
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _pooled(image: Tensor, shrink: int) -> Tensor:
    size = image.shape[-1] // shrink
    return F.interpolate(image, size=(size, size), mode="area")
