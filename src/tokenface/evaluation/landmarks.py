"""68-landmark error on labelled photos, and the camera that fits a given head best to annotated points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tokenface.data.photos import crop_labelled
from tokenface.data.record import PhotoRecord
from tokenface.geometry.camera import Camera, fit_camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters


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


TEST_CROP_SCALE = 1.375
"""Landmark box × 1.1 × 1.25: the protocol's test crop."""


def evaluation_crops(records: list[PhotoRecord], size: int) -> tuple[Tensor, Tensor]:
    """Test crops: images [N, 3, size, size] in [0, 1] and landmarks [N, 68, 2] in crop NDC."""
    images, points = [], []
    for record in records:
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        side = float((high - low).mean()) * TEST_CROP_SCALE
        image, landmarks = crop_labelled(record, (low + high) / 2, side, 0.0, False, size)
        images.append(image)
        points.append(landmarks)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
    return batch, torch.from_numpy(np.stack(points))


def normalised_mean_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean point distance over √(width · height) of the true points' box: [N, 68, 2] each → [N]."""
    box = truth.amax(1) - truth.amin(1)
    return (predicted - truth).norm(dim=-1).mean(-1) / box.prod(-1).sqrt()


@torch.no_grad()
def predict_landmarks(
    model: Callable[[Tensor], FaceParameters], head: HeadModel, images: Tensor, batch: int = 32
) -> Tensor:
    """[N, 3, S, S] → [N, 68, 2] crop NDC."""
    points = []
    for chunk in images.split(batch):
        p = model(chunk)
        camera = Camera.from_vector(p.camera)
        vertices = head(p.shape, head.clamp_expression(p.expression), p.jaw).vertices
        points.append(camera.project(head.landmarks68(vertices, camera.angles()[:, 0]))[..., :2])
    return torch.cat(points)
