"""Face alignment for recognition networks (five points, differentiable), and the interface that they share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.geometry.batched_similarity import planar_similarity

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


@runtime_checkable
class IdentityEncoder(Protocol):
    """size: side of the crops it wants, pixels.  dimensions: length of its vectors.  places: [5, 2] where in its crops
    it wants the eye centres, nose tip and mouth corners, pixels, the crop spanning 0 … size."""

    size: int
    dimensions: int

    @property
    def places(self) -> Tensor: ...

    def __call__(self, faces: Tensor) -> Tensor:
        """[B, 3, size, size], RGB in [0, 1] → [B, dimensions], not normalised."""
        ...


class ScaledInput(nn.Module):
    """A network that wants aligned RGB in [−1, 1] (ArcFace's `(x − 127.5) / 127.5`) behind the interface's [0, 1]."""

    def __init__(self, network: nn.Module, size: int, dimensions: int):
        super().__init__()
        self.network, self.size, self.dimensions = network, size, dimensions

    @property
    def places(self) -> Tensor:
        return (ARCFACE_POINTS + 0.5) * (self.size / 112)

    def forward(self, faces: Tensor) -> Tensor:
        return self.network(faces * 2 - 1)
