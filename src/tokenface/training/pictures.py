"""Sample pictures of a run: photo, what the network makes of it, and the truth, side by side."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render.overlay import PhotoFace, landmarks_over_photo, mesh_over_photo

PANEL = 256
"""Pixels of a panel's side."""


@torch.no_grad()
def sample_sheet(
    predict: Callable[[Tensor], FaceParameters], head: HeadModel, images: Tensor, landmarks: Tensor
) -> np.ndarray:
    """One row per face: the crop; the predicted head and landmarks over it; the true landmarks over it.

    Args:
        predict: crops → parameters on the head's device.
        images: [B, 3, S, S] in [0, 1].  landmarks: [B, 68, 2] crop NDC, the truth.
    Returns:
        [B · 256, 3 · 256, 3] uint8 RGB.
    """
    p = predict(images)
    camera = Camera.from_vector(p.camera)
    vertices = head(p.shape, head.clamp_expression(p.expression), p.jaw).vertices
    points = camera.project(head.landmarks68(vertices, camera.angles()[:, 0]))[..., :2]
    projected, faces = camera.project(vertices), head.faces.cpu().numpy()
    rows = []
    for image, mesh, own, true in zip(images, projected, points, landmarks, strict=True):
        photo = (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        photo = cv2.resize(photo, (PANEL, PANEL), interpolation=cv2.INTER_CUBIC)
        face = PhotoFace(_pixels(mesh), faces, _pixels(own))
        overlay = landmarks_over_photo(mesh_over_photo(photo, [face], alpha=0.65), [face])
        truth = landmarks_over_photo(photo, [PhotoFace(_pixels(mesh), faces, _pixels(true))])
        rows.append(np.concatenate([photo, overlay, truth], axis=1))
    return np.concatenate(rows)


def _pixels(points: Tensor) -> np.ndarray:
    """Crop NDC (and depth in half-widths) to pixels of a panel."""
    scaled = points.cpu().numpy().astype(np.float32) * (PANEL / 2)
    scaled[:, :2] += PANEL / 2
    return scaled
