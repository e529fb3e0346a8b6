"""Test-time augmentation: predictions averaged over scaled, mirrored crops.

Averaging removes network noise: the mean shape is nearer to the truth than any single one, and so are the means of the
468 projected points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry.camera import Camera
from tokenface.geometry.crop import Crop, extract
from tokenface.inference.predictor import Predictor

SCALES = (1.0, 0.92, 1.08, 1.2)
"""Sides of the crops over the network's own; each is used as it is and mirrored."""
SYMMETRIC = 0.01
"""Largest share of a mirrored shape that a symmetric basis may fail to express."""


@dataclass(frozen=True)
class ViewAverage:
    """shape: [S] mean.  points: [468, 2] mean place on the photo, pixels."""

    shape: Tensor
    points: np.ndarray


class ViewAveraging:
    """Test-time augmentation of a network."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor

    def __call__(self, photo: np.ndarray, crop: Crop, count: int) -> ViewAverage:
        """Args: photo: [H, W, 3] uint8.  count: views, at most twice `SCALES`."""
        mirrored = 0 if self.mirror is None else count // 2
        straight = min(count - mirrored, len(SCALES))
        views = [crop.scaled(scale) for scale in SCALES[:straight]]
        crops = extract(photo, views, self.predictor.crop_size)
        predicted = self.predictor.predict(torch.cat([crops, crops[:mirrored].flip(-1)]))
        head, shapes = self.predictor.head, predicted.shape.clone()
        vertices = head(predicted.shape, predicted.expression, predicted.jaw).vertices
        ndc = Camera.from_vector(predicted.camera).project(head.landmarks468(vertices))[..., :2].double().numpy()
        if self.mirror is not None:
            shapes[straight:] = shapes[straight:] @ self.mirror
            ndc[straight:] = ndc[straight:, self.partner] * [-1, 1]
        points = [view.to_photo(own) for view, own in zip([*views, *views[:mirrored]], ndc, strict=True)]
        return ViewAverage(shapes.mean(0), np.mean(points, axis=0))

    @cached_property
    def mirror(self) -> Tensor | None:
        """[S, S]: coefficients of a head to those of its mirror image, `mirrored = shape @ mirror`; None where the head
        model's shapes have no mirror images."""
        head = self.predictor.head
        basis = head.data.shape_basis.astype(np.float64)
        image = (basis[:, head.data.mirror] * [-1, 1, 1]).reshape(len(basis), -1)
        flat = basis.reshape(len(basis), -1)
        matrix = np.linalg.lstsq(flat @ flat.T, flat @ image.T, rcond=1e-9)[0].T
        missed = np.linalg.norm(matrix @ flat - image) / max(float(np.linalg.norm(flat)), 1e-12)
        return torch.from_numpy(matrix).float() if missed < SYMMETRIC else None

    @cached_property
    def partner(self) -> np.ndarray:
        """[468] the face-mesh point on the other side of a symmetric head."""
        head = self.predictor.head
        points = head.landmarks468(head.template[None])[0].numpy()
        return np.linalg.norm(points[:, None] * [-1, 1, 1] - points[None], axis=2).argmin(1)
