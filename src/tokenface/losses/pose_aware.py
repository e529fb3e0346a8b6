"""Pose-aware weights: less landmark, more photometric loss for faces turned far away (Eqs. 12 and 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera


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


def label_angles(head_points: Tensor, labels: Tensor) -> Tensor:
    """Yaw and pitch of faces whose 68 points are known, from a head's own (the jaw line left out: it slides).

    The affine map of least squares, of which the nearest two rows of a rotation are taken.

    Args:
        head_points: [68, 3] head space.  labels: [B, 68, 2], crop NDC, y down.
    Returns:
        [B, 2] radians, as `Camera.angles` counts them.
    """
    known = (head_points[17:] - head_points[17:].mean(0)).double()
    seen = labels[:, 17:].double() * torch.tensor([1.0, -1.0], dtype=torch.float64, device=labels.device)
    affine = torch.linalg.pinv(known) @ (seen - seen.mean(1, keepdim=True))  # [B, 3, 2]
    u, _, v = torch.linalg.svd(affine.transpose(1, 2), full_matrices=False)
    rows = u @ v
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], dim=1).to(labels)
    one, nothing = labels.new_ones(len(labels)), labels.new_zeros(len(labels), 3)
    return Camera(one, rotations.rotmat_to_rotvec(rotation), nothing).angles()[:, :2]


def _weight(angles: Tensor, constants: PoseAwareWeights, slope: float, level: float) -> Tensor:
    excess = pose_excess(angles, constants.threshold)
    if not constants.enabled:
        return torch.full_like(excess, level)
    return (level + slope * excess.clamp_min(0)).clamp_min(0)
