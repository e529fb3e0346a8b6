"""One-Euro smoothing (Casiez et al. 2012) of a tracked face: parameters, and the camera on the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.parameters import FaceParameters
from tokenface.video.prediction import PersonPrediction


@dataclass(frozen=True)
class OneEuroSettings:
    """min_cutoff: Hz at rest, lower is smoother.  beta: how much the cutoff (Hz) rises per unit of speed.
    speed_cutoff: Hz, of the speed's own low-pass."""

    min_cutoff: float = 1.5
    beta: float = 0.3
    speed_cutoff: float = 1.0


class OneEuro:
    """A filter over vectors [N]; times in seconds, not necessarily regular."""

    def __init__(self, settings: OneEuroSettings | None = None) -> None:
        self.settings = settings or OneEuroSettings()
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, value: np.ndarray, time: float) -> np.ndarray:
        """The smoothed value at this time; the first one comes back as it is."""
        value = np.asarray(value, np.float64)
        if self._value is None or self._speed is None or time <= self._time:
            self._value, self._speed, self._time = value, np.zeros_like(value), time
            return value
        s, step = self.settings, time - self._time
        speed = (value - self._value) / step
        self._speed = self._speed + _share(s.speed_cutoff, step) * (speed - self._speed)
        self._value = self._value + _share(s.min_cutoff + s.beta * np.abs(self._speed), step) * (value - self._value)
        self._time = time
        return self._value

    def state(self) -> dict[str, Any]:
        return {"value": self._value, "speed": self._speed, "time": self._time}

    def restore(self, state: dict[str, Any]) -> None:
        self._value, self._speed, self._time = state["value"], state["speed"], float(state["time"])


def _share(cutoff: Any, step: float) -> Any:
    """Weight of the new sample in a first-order low-pass with this cutoff (Hz) and time step (seconds)."""
    ratio = 2 * math.pi * cutoff * step
    return ratio / (ratio + 1)


class FaceSmoother:
    """Smooths each person's predictions; starts anew after a gap or a cut.

    Speeds are per second of: expression weights and radians as they are; place in face sizes; scale as a logarithm.
    """

    def __init__(self, settings: OneEuroSettings | None = None) -> None:
        self.settings = settings or OneEuroSettings()
        self._filters: dict[int, OneEuro] = {}
        self._last: dict[int, tuple[int, int]] = {}

    def step(self, index: int, time: float, predictions: list[PersonPrediction]) -> list[PersonPrediction]:
        """The smoothed predictions of frame `index`."""
        smoothed = []
        for prediction in predictions:
            last = self._last.get(prediction.person)
            if last != (index - 1, prediction.scene):
                self._filters[prediction.person] = OneEuro(self.settings)
            self._last[prediction.person] = (index, prediction.scene)
            smoothed.append(self._smooth(self._filters[prediction.person], prediction, time))
        return smoothed

    def state(self) -> dict[str, Any]:
        return {
            "filters": {str(person): one.state() for person, one in self._filters.items()},
            "last": {str(person): list(last) for person, last in self._last.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._filters, self._last = {}, {}
        for person, entry in state["filters"].items():
            self._filters[int(person)] = OneEuro(self.settings)
            self._filters[int(person)].restore(entry)
        self._last = {int(person): (last[0], last[1]) for person, last in state["last"].items()}

    def _smooth(self, filtered: OneEuro, prediction: PersonPrediction, time: float) -> PersonPrediction:
        p = prediction.parameters
        rotation, place = _on_frame(prediction)
        others = {name: value.numpy() for name, value in p.items() if name != "camera"}
        vectors = [rotation.reshape(-1), place, *others.values()]
        smooth = filtered(np.concatenate(vectors), time)
        turned, moved, *rest = np.split(smooth, np.cumsum([len(vector) for vector in vectors])[:-1])
        tensors = {name: torch.from_numpy(value).float() for name, value in zip(others, rest, strict=True)}
        camera = _in_crop(prediction, _nearest_rotation(turned.reshape(3, 3)), moved)
        return replace(prediction, parameters=FaceParameters(camera=camera, **tensors))


def _on_frame(prediction: PersonPrediction) -> tuple[np.ndarray, np.ndarray]:
    """Rotation matrix on the frame, and [3]: place of the head's origin in fifths of the frame (about a head's width,
    so that speeds are comparable with those of angles), and log of pixels per metre."""
    camera = prediction.camera
    origin = camera.project(np.zeros((1, 3)))[0] / (max(prediction.size) / 5)
    return camera.rotation, np.array([*origin, math.log(camera.pixels_per_metre)])


def _in_crop(prediction: PersonPrediction, rotation: np.ndarray, place: np.ndarray) -> torch.Tensor:
    """[7] the camera component, in the prediction's own crop, that has this rotation and place on the frame."""
    crop = prediction.crop
    cos, sin = math.cos(crop.angle), math.sin(crop.angle)
    local = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ rotation
    x, y = crop.to_ndc(place[None, :2] * (max(prediction.size) / 5))[0]
    scale = math.exp(place[2]) / (crop.size / 2)
    depth = float(prediction.parameters.camera[6])
    return torch.tensor([scale, *Rotation.from_matrix(local).as_rotvec(), x, -y, depth], dtype=torch.float32)


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    u, _, vh = np.linalg.svd(matrix)
    return u @ np.diag([1, 1, np.linalg.det(u @ vh)]) @ vh
