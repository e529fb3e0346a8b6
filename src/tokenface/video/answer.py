"""A person in one frame, as it is kept on disk: parameters, crop, how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.parameters import FaceParameters


@dataclass(frozen=True, eq=False)
class Answer:
    """parameters: every tensor [size], float32 on the CPU.  size: (height, width) of the frame, pixels.
    scene: number of the shot."""

    person: int
    scene: int
    parameters: FaceParameters
    crop: Crop
    size: tuple[int, int]
    confidence_features: ConfidenceFeatures

    @property
    def camera(self) -> FaceCamera:
        return FaceCamera(self.parameters.camera.double().numpy(), self.crop, self.size)


@dataclass(frozen=True, eq=False)
class FrameAnswers:
    """All people of one frame. cut: the frame begins a new shot."""

    index: int
    time: float
    cut: bool
    answers: list[Answer] = field(default_factory=list)


def crop_vector(crop: Crop) -> np.ndarray:
    """[4] float64: centre x, y, side, angle."""
    return np.array([*crop.centre, crop.size, crop.angle], np.float64)


def crop_of(vector: np.ndarray) -> Crop:
    x, y, size, angle = (float(value) for value in vector)
    return Crop((x, y), size, angle)
