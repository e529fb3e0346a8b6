"""Rotations and head angles of one face, in NumPy; `rotations` and `camera` have batches of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def rotation_matrix(rotation: Sequence[float] | np.ndarray) -> np.ndarray:
    """Axis-angle [3] to a rotation matrix [3, 3] (Rodrigues)."""
    vector = np.asarray(rotation, dtype=np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def head_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in radians of a matrix [3, 3], as `Camera.angles`."""
    r = rotation
    across = math.sqrt(max(r[0, 0] ** 2 + r[1, 0] ** 2, 1e-12))
    return math.atan2(-r[2, 0], across), math.atan2(-r[2, 1], r[2, 2]), math.atan2(r[1, 0], r[0, 0])
