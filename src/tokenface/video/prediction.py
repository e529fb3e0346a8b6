"""Predictions on the frames of a clip: one forward pass over the crops of a frame, and the record kept per person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.predictor import Prediction, Predictor
from tokenface.parameters import FaceParameters


@dataclass(frozen=True, eq=False)
class PersonPrediction:
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
class FramePredictions:
    """All people of one frame. cut: the frame begins a new shot."""

    index: int
    time: float
    cut: bool
    predictions: list[PersonPrediction] = field(default_factory=list)


def crop_vector(crop: Crop) -> np.ndarray:
    """[4] float64: centre x, y, side, angle."""
    return np.array([*crop.centre, crop.size, crop.angle], np.float64)


def crop_of(vector: np.ndarray) -> Crop:
    x, y, size, angle = (float(value) for value in vector)
    return Crop((x, y), size, angle)


@dataclass(frozen=True, eq=False)
class FrameView(Prediction):
    """A prediction on a frame.  colours: [N] colour histogram of the crop, sums to 1."""

    colours: np.ndarray


_FIELDS = [one.name for one in fields(Prediction)]


def predict_views(predictor: Predictor, image: np.ndarray, crops: Sequence[Crop]) -> list[FrameView]:
    """One pass over crops of one frame [H, W, 3]."""
    predictions = predictor.predictions([image] * len(crops), crops, max(len(crops), 1), mesh468=False)
    return [
        FrameView(**{name: getattr(one, name) for name in _FIELDS}, colours=colour_histogram(one.pixels.numpy()))
        for one in predictions
    ]


def colour_histogram(pixels: np.ndarray, bins: int = 6) -> np.ndarray:
    """[3, S, S] in [0, 1] → [bins³] shares of the crop's pixels: what tells people of one clip apart."""
    thin = pixels[:, 2::4, 2::4].reshape(3, -1)
    places = np.minimum((thin * bins).astype(np.int64), bins - 1)
    histogram = np.bincount((places[0] * bins + places[1]) * bins + places[2], minlength=bins**3)
    return (histogram / max(histogram.sum(), 1)).astype(np.float32)


def certainty(view: FrameView) -> float:
    """The larger, the surer the network is of where the face is; 0 where it does not say."""
    return -view.sigma if view.sigma is not None else 0.0
