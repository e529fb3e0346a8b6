"""Face mesh of MediaPipe: 468 dense landmarks and a presence score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks, extract_array, roll_of
from tokenface.images.blazeface import TFLiteModel
from tokenface.images.models import model_path

MESH_SIZE = 192
NETWORK_OFFSET = 0.77
"""Network pixels by which its points sit too far left, and by the same padding too high: half the disagreement between
its points on 76 photos and on their mirror images (± 0.06)."""
MESH_MARGIN = 1.5
"""The network wants the face with a quarter of its size around it [MediaPipe's face-landmark graph]."""

FOREHEAD, CHIN = 10, 152
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)


@dataclass(frozen=True)
class MeshResult:
    """points: [468, 3] photo pixels, z on the same scale, smaller is nearer.  presence: in [0, 1]."""

    points: np.ndarray
    presence: float

    @property
    def roll(self) -> float:
        """In-plane rotation, radians, anticlockwise positive."""
        return mesh_roll(self.points)


class FaceMesh:
    """The mesh network. Callable from several threads."""

    def __init__(self, quiet: bool = False) -> None:
        self._network = TFLiteModel(model_path("face_mesh", quiet=quiet))

    def once(self, image: np.ndarray, crop: Crop) -> MeshResult:
        """One pass over one crop in which the face should be upright and fill two thirds.

        Args:
            image: [H, W, 3] uint8 RGB.
        """
        picture = extract_array(image, [crop], MESH_SIZE)[0].transpose(1, 2, 0)
        outputs = self._network(picture)
        raw = next(out for out in outputs if out.size == 468 * 3).reshape(468, 3).astype(np.float64)
        logit = float(next(out for out in outputs if out.size == 1).reshape(()))
        ndc = (raw + np.array([NETWORK_OFFSET, NETWORK_OFFSET, 0.0])) * (2 / MESH_SIZE) - np.array([1.0, 1.0, 0.0])
        return MeshResult(crop.to_photo(ndc), 1 / (1 + math.exp(-max(-50.0, min(50.0, logit)))))

    def __call__(self, image: np.ndarray, crop: Crop) -> MeshResult:
        """Two passes: the second one is cropped from the points of the first, which sets size and roll right.

        The second result counts unless it lost the face.
        """
        first = self.once(image, crop)
        if first.presence < 0.05:
            return first
        second = self.once(image, mesh_crop(first.points))
        return second if second.presence >= 0.5 * first.presence else first


def mesh_crop(points: np.ndarray) -> Crop:
    """The crop that the network wants, from points [468, 2 or 3] in photo pixels: upright, square, 1.5 × the face."""
    angle = mesh_roll(points)
    cos, sin = math.cos(angle), math.sin(angle)
    aligned = points[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    crop = crop_from_landmarks(points, angle=angle, scale=1, box_scale=1)
    longer = float(np.ptp(aligned, axis=0).max())
    return Crop(crop.centre, max(longer, 1.0) * MESH_MARGIN, angle)


def mesh_roll(points: np.ndarray) -> float:
    """In-plane rotation from mesh points, radians, anticlockwise positive; holds in profile too."""
    eyes = points[list(LEFT_EYE_CORNERS), :2].mean(axis=0) - points[list(RIGHT_EYE_CORNERS), :2].mean(axis=0)
    return roll_of(eyes, points[FOREHEAD, :2] - points[CHIN, :2])
