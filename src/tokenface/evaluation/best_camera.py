"""The camera that brings a given head closest to 68 annotated points: the yardstick for landmark errors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry.camera import Camera
from tokenface.geometry.first_camera import fit_camera
from tokenface.head.model import HeadModel


def landmarks_with_best_camera(head: HeadModel, vertices: Tensor, truth: Tensor, rounds: int = 3) -> Tensor:
    """Project heads with the best camera for each photo; the jaw line slides with the yaw that is found.

    Args:
        vertices: [N, V, 3].  truth: [N, 68, 2], crop NDC.
    Returns:
        [N, 68, 2], crop NDC.
    """
    yaw = torch.zeros(len(truth))
    projected = truth
    for _ in range(rounds):
        points = head.landmarks68(vertices, yaw)
        cameras = [fit_camera(p, t) for p, t in zip(points.double().numpy(), truth.double().numpy(), strict=True)]
        camera = Camera.from_vector(torch.from_numpy(np.stack(cameras)).float())
        yaw = camera.angles()[:, 0]
        projected = camera.project(points)[..., :2]
    return projected
