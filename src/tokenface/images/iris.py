"""Iris landmarks of MediaPipe: centres and diameters of both irises.

The horizontal diameter of the human iris is 11.7 ± 0.5 mm, in adults of every size [MediaPipe Iris, after Rüfer 2005].
The network sees one eye at a time; the 468-point face mesh of the same family says where the eyes are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.geometry.crop import Crop, extract_array
from tokenface.images.blazeface import TFLiteModel
from tokenface.images.facemesh import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS, mesh_roll
from tokenface.images.models import model_path

IRIS_SIZE = 64
EYE_MARGIN = 2.3
"""Side of the network's crop over the distance between the eye's corners [MediaPipe's iris graph]."""
IRIS_METRES = 0.0117
LEAST_PIXELS = 5.0
"""A smaller iris cannot be measured: one pixel of its border would be a fifth of it."""


@dataclass(frozen=True)
class Iris:
    """centre: [2] photo pixels.  diameter: photo pixels, of the longer axis: turning shortens the other."""

    centre: np.ndarray
    diameter: float


class IrisNetwork:
    """The iris network. Callable from several threads.

    Raises:
        ModelFileError: its file is missing and cannot be fetched.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._network = TFLiteModel(model_path("iris", quiet=quiet))

    def __call__(self, image: np.ndarray, points: np.ndarray) -> tuple[Iris, Iris]:
        """The subject's left and right iris.

        Args:
            image: [H, W, 3] uint8 RGB.  points: [468, 2 or 3] of the face mesh, photo pixels.
        """
        roll = mesh_roll(points)
        left = self._eye(image, points[list(LEFT_EYE_CORNERS), :2], roll, mirrored=True)
        return left, self._eye(image, points[list(RIGHT_EYE_CORNERS), :2], roll, mirrored=False)

    def _eye(self, image: np.ndarray, corners: np.ndarray, roll: float, mirrored: bool) -> Iris:
        """It was taught one eye, the subject's right; the other one is shown to it in the mirror."""
        side = max(float(np.linalg.norm(corners[1] - corners[0])) * EYE_MARGIN, 1.0)
        middle = corners.mean(0)
        crop = Crop((float(middle[0]), float(middle[1])), side, roll)
        picture = extract_array(image, [crop], IRIS_SIZE)[0].transpose(1, 2, 0)
        outputs = self._network(picture[:, ::-1] if mirrored else picture)
        points = next(out for out in outputs if out.size == 5 * 3).reshape(5, 3)[:, :2].astype(np.float64)
        ndc = points * (2 / IRIS_SIZE) - 1
        if mirrored:
            ndc[:, 0] *= -1
        centre, *rim = crop.to_photo(ndc)
        across, along = np.linalg.norm(rim[0] - rim[2]), np.linalg.norm(rim[1] - rim[3])
        return Iris(centre, float(max(across, along)))
