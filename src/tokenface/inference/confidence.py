"""Confidence of a prediction: calibrated probability where the weights have a calibration, else a product of features.

Definition and fitting of the probability: `tokenface.training.calibration`.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields

import numpy as np

from tokenface.geometry.pinhole import FaceCamera
from tokenface.images.detection import Detection
from tokenface.parameters import COMPONENTS

AGREEMENT_SCALE = 0.12
"""Mean distance to the detector's points, over the size of its box, at which agreement falls to 1/e."""
STABILITY_SCALE = 0.12
"""The same for the landmarks' movement between the first pass and the refined one."""
UNCONFIRMED = 0.6
"""Agreement where there are no points to compare with (mask, full profile, a box from the caller)."""
SHARP_FACE = 40.0
"""Pixels: smaller faces lose confidence in proportion."""
TYPICAL_SHAPE = 2.0
"""Root mean square of the shape coefficients (standard deviations) up to which a head is ordinary."""


RANKING_FEATURES = ("detection", "agreement", "stability", "resolution", "plausibility")


@dataclass(frozen=True)
class ConfidenceFeatures:
    """Features of a confidence, each in [0, 1], and the calibrated quantities derived from them.

    detection: score of the detector (1 for boxes and landmarks given by the caller).
    agreement: the network's landmarks against the detector's own points.
    stability: first-pass against second-pass landmarks.
    resolution: enough pixels.  plausibility: head shape within what people look like, face turned to the viewer.
    presence: the face mesh's score that a face is there; 0 where it saw none or was not run.
    probability: that the 68 points are right, calibrated; NaN for weights without a calibration.
    expected_*: mean error of faces with such features; NaN likewise. Shape and expression in mm, jaw and camera
        (the head's rotation) in degrees, texture and light in grey
        levels of 255 (`tokenface.training.calibration.truth`).
    """

    detection: float
    agreement: float
    stability: float
    resolution: float
    plausibility: float
    presence: float = 0.0
    probability: float = math.nan
    expected_shape: float = math.nan
    expected_expression: float = math.nan
    expected_jaw: float = math.nan
    expected_camera: float = math.nan
    expected_texture: float = math.nan
    expected_light: float = math.nan

    @property
    def confidence(self) -> float:
        """In [0, 1]: the calibrated probability, else the product of the five ranking features, which only ranks."""
        return float(confidences(np.array([astuple(self)]))[0])

    @property
    def expected_errors(self) -> dict[str, float]:
        """Component → expected error; empty for weights without a calibration."""
        found = {name: getattr(self, f"expected_{name}") for name in COMPONENTS}
        return found if all(map(math.isfinite, found.values())) else {}


CONFIDENCE_FIELDS = tuple(field.name for field in fields(ConfidenceFeatures))


def confidences(rows: np.ndarray) -> np.ndarray:
    """[N, len(CONFIDENCE_FIELDS)] fields of N `ConfidenceFeatures` → [N] their confidence."""
    product = rows[:, [CONFIDENCE_FIELDS.index(name) for name in RANKING_FEATURES]].prod(axis=1)
    product = np.where(np.isfinite(product), product.clip(0, 1), 0.0)
    probability = rows[:, CONFIDENCE_FIELDS.index("probability")]
    return np.where(np.isfinite(probability), probability, product)


def confidence_features_of(
    detection: Detection,
    landmarks68: np.ndarray,
    landmarks468: np.ndarray | None,
    first_landmarks68: np.ndarray,
    shape: np.ndarray,
    camera: FaceCamera,
) -> ConfidenceFeatures:
    """Confidence features of one face.

    Args:
        detection: what the detector, or the caller, said.
        landmarks68: [68, 2] of the final prediction, photo pixels.  landmarks468: [468, 2], NaN where the head has
        none.
        first_landmarks68: [68, 2] of the first pass.  shape: [S].
    """
    size = max(detection.size, 1.0)
    return ConfidenceFeatures(
        detection=float(np.clip(detection.score, 0, 1)),
        agreement=_agreement(detection, landmarks68, landmarks468, size),
        stability=_fall(_distance(landmarks68, first_landmarks68) / size, STABILITY_SCALE),
        resolution=float(min(1.0, size / SHARP_FACE)),
        plausibility=_plausibility(shape, camera),
        presence=float(np.clip(detection.presence, 0, 1)),
    )


def box_size(points: np.ndarray) -> float:
    """Root of the area of the points' box, pixels; at least one."""
    return float(max(np.sqrt(np.prod(np.ptp(points[:, :2], axis=0))), 1.0))


def landmark_distance(detection: Detection, landmarks68: np.ndarray, landmarks468: np.ndarray | None) -> float | None:
    """Mean distance in photo pixels to the points that came with the detection; None where there are none."""
    if detection.landmarks468 is not None and landmarks468 is not None:
        known = np.isfinite(landmarks468).all(axis=1)
        if known.any():
            return _distance(landmarks468[known], detection.landmarks468[known])
    if detection.landmarks68 is not None:
        return _distance(landmarks68, detection.landmarks68)
    return None


def _agreement(detection: Detection, landmarks68: np.ndarray, landmarks468: np.ndarray | None, size: float) -> float:
    distance = landmark_distance(detection, landmarks68, landmarks468)
    if distance is not None:
        return _fall(distance / size, AGREEMENT_SCALE)
    # Without points the landmarks should at least lie where the box is.
    x0, y0, x1, y1 = detection.box
    offset = float(np.linalg.norm(landmarks68.mean(axis=0) - [(x0 + x1) / 2, (y0 + y1) / 2]))
    return UNCONFIRMED * _fall(offset / max(detection.size, 1.0), 0.5)


def _plausibility(shape: np.ndarray, camera: FaceCamera) -> float:
    rms = float(np.sqrt(np.mean(np.square(shape)))) if shape.size else 0.0
    ordinary = _fall(max(0.0, rms - TYPICAL_SHAPE), 1.0)
    # No photo that shows a face has it turned further than profile.
    yaw = abs(camera.angles[0])
    return ordinary * _fall(max(0.0, yaw - math.radians(110)), math.radians(20))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:, :2] - b[:, :2], axis=1).mean())


def _fall(value: float, scale: float) -> float:
    return math.exp(-((value / scale) ** 2)) if math.isfinite(value) else 0.0
