"""The scaled-orthographic camera of points whose places on the picture are known."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import least_squares

from tokenface.geometry import rotations


def first_camera(points: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation [3, 3] and shift [2] by linear least squares, the rotation's rows made orthonormal.

    Args:
        points: [N, 3], metres, head space.  target: [N, 2], y up.
    """
    middle, centre = points.mean(0), target.mean(0)
    affine, *_ = np.linalg.lstsq(points - middle, target - centre, rcond=None)
    u, s, vt = np.linalg.svd(affine.T, full_matrices=False)
    rows, scale = u @ vt, float(s.mean())
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    return scale, rotation, centre - scale * rows @ middle


def fit_camera(points3d: np.ndarray, points2d: np.ndarray) -> np.ndarray:
    """Scaled-orthographic camera by least squares.

    Args:
        points3d: [N, 3], metres, head space.  points2d: [N, 2], crop NDC (x right, y down).
    Returns:
        [7] camera vector; t_z = 0.
    """
    up = points2d * np.array([1.0, -1.0])
    scale, rotation, shift = first_camera(points3d, up)
    turn = rotations.rotmat_to_rotvec(torch.from_numpy(rotation)).numpy()
    start = np.concatenate([[np.log(scale)], turn, shift])

    def residual(x: np.ndarray) -> np.ndarray:
        r = rotations.rotvec_to_rotmat(torch.from_numpy(x[1:4])).numpy()
        return (np.exp(x[0]) * points3d @ r[:2].T + x[4:6] - up).ravel()

    x = least_squares(residual, start, method="lm", max_nfev=200).x
    return np.array([np.exp(x[0]), *x[1:4], *x[4:6], 0.0])
