"""What can be measured of an answer without knowing the truth: the numbers that a calibrated confidence is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.confidence import Evidence
from tokenface.parameters import FaceParameters

FEATURES = (
    "sigma", "sigma²", "apart", "apart known", "apart²", "moved", "moved known", "moved²", "undetected", "absence",
    "few pixels", "outside", "yaw", "yaw²", "pitch", "shape", "texture", "expression", "jaw", "off centre", "size",
)  # fmt: skip
FARTHEST = 3.0
"""Distances are cut here, in units of `confidence.AGREEMENT_SCALE`: wrong is wrong."""
GRID = 9


@dataclass(frozen=True, eq=False)
class Signs:
    """features: [len(FEATURES)].  tokens: [T·D] the network's component tokens."""

    features: np.ndarray
    tokens: np.ndarray


def signs_of(evidence: Evidence, parameters: FaceParameters, camera: FaceCamera, sigma: float, tokens: Tensor) -> Signs:
    """The signs of one face.

    Args:
        parameters: every tensor [size].  sigma: mean expected error of the landmarks, crop half-widths.
        tokens: [T, D].
    """
    yaw, pitch, _ = camera.angles
    apart, apart_known = _distance(evidence.agreement), evidence.presence > 0
    moved, moved_known = _distance(evidence.stability), evidence.stability < 1
    apart, moved = apart * apart_known, moved * moved_known
    vector = parameters.camera.double().numpy()
    sure = math.log(max(sigma, 1e-4))
    features = (
        *(sure, sure**2),
        *(apart, apart_known, apart**2),
        *(moved, moved_known, moved**2),
        1 - evidence.detection,
        1 - evidence.presence,
        max(0.0, math.log(96 / max(camera.crop.size, 1.0))),
        _outside(camera),
        *(abs(yaw), yaw**2, abs(pitch)),
        *(_rms(values) for values in (parameters.shape, parameters.texture, parameters.expression)),
        float(parameters.jaw.norm()),
        float(np.hypot(*vector[4:6])),
        math.log(max(vector[0], 1e-3)),
    )
    return Signs(np.asarray(features, np.float64), tokens.float().numpy().ravel())


def _distance(sign: float) -> float:
    """What `confidence.weigh` turned into a sign that falls from 1, in its own scale."""
    return min(math.sqrt(max(-math.log(max(sign, 1e-9)), 0.0)), FARTHEST)


def _outside(camera: FaceCamera) -> float:
    """Share of the crop that lies outside of the photo."""
    axis = (np.arange(GRID) + 0.5) * (2 / GRID) - 1
    points = camera.crop.to_photo(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    height, width = camera.photo_size
    inside = (points >= 0).all(1) & (points[:, 0] <= width) & (points[:, 1] <= height)
    return float(1 - inside.mean())


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt()) if values.numel() else 0.0
