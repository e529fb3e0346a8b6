"""A batch of posed heads as the things around them see it: landmarks, scalp, gravity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.data.scene.anatomy import Anatomy


@dataclass(frozen=True)
class Placement:
    """Everything in head space, metres.

    vertices: [B, V, 3].  landmarks: [B, 68, 3].  scalp: [B, R, C, 3] points where the table's rays leave the head.
    skull: [B, 3].  rotation: [B, 3, 3] head space to camera space.  down: [B, 3] gravity.
    """

    anatomy: Anatomy
    vertices: Tensor
    landmarks: Tensor
    scalp: Tensor
    skull: Tensor
    rotation: Tensor

    @staticmethod
    def of(anatomy: Anatomy, vertices: Tensor, landmarks: Tensor, rotation: Tensor) -> Placement:
        corners = anatomy.scalp_corners.flatten()
        weights = anatomy.scalp_barycentrics
        points = vertices[:, corners].view(vertices.shape[0], *weights.shape, 3)
        scalp = (points * weights[..., None]).sum(3)
        upper = scalp[:, : scalp.shape[1] // 2]
        skull = (upper.amin((1, 2)) + upper.amax((1, 2))) / 2
        skull = torch.stack([skull[:, 0], landmarks[:, 27, 1] + 0.01 * anatomy.unit, skull[:, 2]], dim=1)
        return Placement(anatomy, vertices, landmarks, scalp, skull, rotation)

    @property
    def down(self) -> Tensor:
        return -self.rotation[:, 1]

    @property
    def unit(self) -> float:
        return self.anatomy.unit

    @property
    def third(self) -> Tensor:
        """[B] bridge to nose base, metres: a third of the face is about this long."""
        return self.landmarks[:, 27, 1] - self.landmarks[:, 33, 1]
