"""What the network says of a crop, and the crop that it asks for next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.geometry.pinhole import FaceCamera
from tokenface.images.detection import Detection
from tokenface.inference.confidence import box_size, landmark_distance
from tokenface.parameters import FaceParameters

LOST = 0.35
"""A first answer further from the detector's points (over the root of their box area) is not cropped from again."""


@dataclass(frozen=True)
class Answer:
    """One pass for one face. landmarks68: [68, 2], landmarks468: [468, 2] or None, photo pixels.

    sigma, tokens [T, D]: as `Outputs`.
    """

    parameters: FaceParameters
    camera: FaceCamera
    landmarks68: np.ndarray
    landmarks468: np.ndarray | None
    sigma: float | None
    tokens: Tensor | None


@dataclass(frozen=True)
class Outputs:
    """The network's answers for B crops. sigmas: mean expected error of each crop's landmarks, crop half-widths.

    tokens: of each crop, [T, D]; both None where the network does not say.
    """

    parameters: FaceParameters
    sigmas: Sequence[float | None]
    tokens: Sequence[Tensor | None]


def recropped(crop: Crop, answer: Answer, detection: Detection, scale: float) -> Crop:
    """The crop of the second pass: around the network's own landmarks, upright; the first one if they went astray."""
    points = answer.landmarks68
    distance = landmark_distance(detection, points, answer.landmarks468)
    size = box_size(points if detection.landmarks68 is None else detection.landmarks68)
    if not np.isfinite(points).all() or (distance is not None and distance > LOST * size):
        return crop
    refined = crop_from_landmarks(points, scale, answer.camera.angles[2])
    middle = np.subtract(refined.centre, crop.centre)
    astray = float(np.hypot(*middle)) > crop.size / 2 or not 0.4 < refined.size / crop.size < 2.5
    return crop if astray else refined
