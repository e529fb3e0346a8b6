"""The dense task of the patches: which point of the mean head each little square of a rendered face shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.network.surface import POINT_SCALE
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import interpolate, rasterize

COVERAGE_WEIGHT = 0.1
"""Of "is the head seen here?" beside the points: hair and hats cover what the bare head's truth calls seen."""


class SurfaceObjective:
    """Compares a network's surface map with the true head, drawn at the map's size."""

    def __init__(self, head: HeadModel):
        self.head = head

    def __call__(self, surface: Tensor, truth: FaceParameters) -> Tensor:
        """surface: [B, 4, H, W] of `SurfaceMap` → [B]; an error of the head's size counts about 1."""
        points, seen = self.truth(truth, surface.shape[-2], surface.shape[-1])
        errors = (surface[:, :3] - points).abs().sum(1) / POINT_SCALE * seen
        coverage = F.binary_cross_entropy_with_logits(surface[:, 3], seen, reduction="none")
        return errors.sum((1, 2)) / seen.sum((1, 2)).clamp_min(1) + COVERAGE_WEIGHT * coverage.mean((1, 2))

    @torch.no_grad()
    def truth(self, truth: FaceParameters, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Points [B, 3, H, W] of the mean head, metres, 0 where none is seen; seen [B, H, W], 1 or 0."""
        vertices = self.head(truth.shape, truth.expression, truth.jaw).vertices
        projected = Camera.from_vector(truth.camera).project(vertices)
        fragments = rasterize(projected, self.head.faces, height, width)
        points = interpolate(fragments, self.head.template, self.head.faces)
        return points.permute(0, 3, 1, 2), fragments.mask.to(points.dtype)
