"""State of one tracked person: last position, appearance and recognition vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.inference.confidence import ConfidenceFeatures

STILL_CENTRE, STILL_SIZE, STILL_ANGLE = 0.03, 0.04, math.radians(2.5)
"""Motions of the face (shares of the crop, log of the size, radians) that leave the crop where it is: a crop that
trembles with the landmarks makes them tremble more."""
MOVED, GROWN, TURNED = 0.12, 0.2, math.radians(15)
"""Motions likewise, after which the same frame gets a second pass."""
COLOUR_MEMORY = 0.9
FORMER = {"strange": "unmatched", "stranger": "unmatched_vector"}
"""Names in the states of runs that an earlier version began."""
VECTOR_MEMORY = 20
"""Recognition vectors that the running mean reaches back."""


@dataclass
class Person:
    """landmarks68: [68, 2] frame pixels, when last seen.  crop: for the next frame.  roll: radians.
    colours: [N] running mean of the crop's colours.  last_frame, last_time: when last seen.  scene: number of the shot.
    checked: time of the face mesh's last check.  doubts: consecutive checks without a face.
    detection, agreement, presence: of the last check.
    vector: [D] running mean of `vectors` recognition vectors.  recognised: time of the last one.
    unmatched: further views that must match another identity, `unmatched_vector` [D], before it counts as a new one;
    0 while the face matches.  hasty: it came at a jump, and is compared again in the next frame.
    glimpse, compared: the face in the last frame and when last recognised, small (`identity.face_glimpse`)."""

    number: int
    landmarks68: np.ndarray
    crop: Crop
    colours: np.ndarray
    last_frame: int
    last_time: float
    scene: int
    checked: float
    doubts: int = 0
    detection: float = 1.0
    agreement: float = 1.0
    presence: float = 0.0
    vector: np.ndarray | None = None
    vectors: int = 0
    recognised: float = -math.inf
    unmatched: int = 0
    hasty: bool = False
    unmatched_vector: np.ndarray | None = None
    glimpse: np.ndarray | None = None
    compared: np.ndarray | None = None

    @property
    def box(self) -> np.ndarray:
        return np.concatenate([self.landmarks68.min(axis=0), self.landmarks68.max(axis=0)])

    def seen(self, landmarks68: np.ndarray, crop: Crop, colours: np.ndarray, frame: int, time: float) -> None:
        self.landmarks68, self.crop = landmarks68, crop
        self.colours = COLOUR_MEMORY * self.colours + (1 - COLOUR_MEMORY) * colours
        self.last_frame, self.last_time = frame, time

    def distance(self, vector: np.ndarray) -> float:
        """Euclidean, from this person's mean vector; 0 where there is none yet, for nothing speaks against it."""
        return 0.0 if self.vector is None else float(np.linalg.norm(self.vector - vector))

    def learn(self, vector: np.ndarray) -> None:
        self.vectors = min(self.vectors + 1, VECTOR_MEMORY)
        before = vector if self.vector is None else self.vector
        self.vector = (before + (vector - before) / self.vectors).astype(np.float32)
        self.unmatched, self.unmatched_vector = 0, None

    def update(self, features: ConfidenceFeatures) -> None:
        self.detection, self.agreement, self.presence = features.detection, features.agreement, features.presence

    def state(self) -> dict[str, Any]:
        crop = [*self.crop.centre, self.crop.size, self.crop.angle]
        return {**vars(self), "crop": crop}

    @staticmethod
    def from_state(state: dict[str, Any]) -> Person:
        x, y, size, angle = state["crop"]
        values = {FORMER.get(name, name): value for name, value in state.items()}
        return Person(**{**values, "crop": Crop((x, y), size, angle)})


def following_crop(crop: Crop, landmarks68: np.ndarray, roll: float, scale: float) -> Crop:
    """The crop for the next frame: the old one while the face keeps still in it, else a new one around the face."""
    fresh = crop_from_landmarks(landmarks68, scale, roll)
    away, growth, turn = crop_change(crop, fresh)
    still = away < STILL_CENTRE and growth < STILL_SIZE and turn < STILL_ANGLE
    return crop if still else fresh


def moved_far(old: Crop, new: Crop) -> bool:
    """The face is so far from its crop's centre that the same frame deserves a second pass."""
    away, growth, turn = crop_change(old, new)
    return away > MOVED or growth > GROWN or turn > TURNED


def crop_change(old: Crop, new: Crop) -> tuple[float, float, float]:
    """Shift over the old side, |log size ratio|, |turn| in radians."""
    away = math.hypot(new.centre[0] - old.centre[0], new.centre[1] - old.centre[1]) / old.size
    return away, abs(math.log(new.size / old.size)), abs(math.remainder(new.angle - old.angle, math.tau))


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of differences of two histograms: 0 alike, 1 nothing in common."""
    return float(np.abs(a - b).sum()) / 2
