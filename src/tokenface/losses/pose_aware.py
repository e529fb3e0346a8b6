"""Landmarks are trusted less and pixels more on faces that are turned far away (Eqs. 12 and 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PoseAwareWeights:
    """The paper's constants: ω_lmk = a·ξ + b and ω_photo = c·ξ + d beyond `threshold`, b and d before it."""

    landmark_slope: float = -0.76  # a, per radian
    landmark: float = 1.6  # b
    photometric_slope: float = 0.38  # c, per radian
    photometric: float = 2.2  # d
    threshold: float = math.pi / 4  # radians
    enabled: bool = True  # False: b and d everywhere (Fig. 7's comparison)


def pose_excess(angles: Tensor, threshold: float = math.pi / 4) -> Tensor:
    """`ξ = max(|azimuth|, |elevation|) − π/4`: angles [B, ≥2] yaw and pitch in radians → [B]."""
    return angles[..., :2].abs().amax(-1) - threshold


def landmark_weight(angles: Tensor, constants: PoseAwareWeights | None = None) -> Tensor:
    """ω_lmk of every face (Eq. 12), never below 0: angles [B, ≥2], radians → [B]."""
    c = constants or PoseAwareWeights()
    return _weight(angles, c, c.landmark_slope, c.landmark)


def photometric_weight(angles: Tensor, constants: PoseAwareWeights | None = None) -> Tensor:
    """ω_photo of every face (Eq. 13): angles [B, ≥2], radians → [B]."""
    c = constants or PoseAwareWeights()
    return _weight(angles, c, c.photometric_slope, c.photometric)


def _weight(angles: Tensor, constants: PoseAwareWeights, slope: float, level: float) -> Tensor:
    excess = pose_excess(angles, constants.threshold)
    if not constants.enabled:
        return torch.full_like(excess, level)
    return (level + slope * excess.clamp_min(0)).clamp_min(0)
