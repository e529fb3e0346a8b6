"""The camera that brings a given head closest to 68 annotated points: the yardstick for landmark errors."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel


def fit_camera(points3d: np.ndarray, points2d: np.ndarray) -> np.ndarray:
    """Scaled-orthographic camera by least squares.

    Args:
        points3d: [N, 3], metres, head space.  points2d: [N, 2], crop NDC (x right, y down).
    Returns:
        [7] camera vector; t_z = 0.
    """
    up = points2d * np.array([1.0, -1.0])
    centre3, centre2 = points3d.mean(0), up.mean(0)
    affine, *_ = np.linalg.lstsq(points3d - centre3, up - centre2, rcond=None)
    u, s, vt = np.linalg.svd(affine.T, full_matrices=False)
    rows = u @ vt
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    start = np.concatenate(
        [
            [np.log(s.mean())],
            rotations.rotmat_to_rotvec(torch.from_numpy(rotation)).numpy(),
            centre2 - s.mean() * rows @ centre3,
        ]
    )

    def residual(x: np.ndarray) -> np.ndarray:
        r = rotations.rotvec_to_rotmat(torch.from_numpy(x[1:4])).numpy()
        return (np.exp(x[0]) * points3d @ r[:2].T + x[4:6] - up).ravel()

    x = least_squares(residual, start, method="lm", max_nfev=200).x
    return np.array([np.exp(x[0]), *x[1:4], *x[4:6], 0.0])


def landmarks_with_best_camera(head: HeadModel, vertices: Tensor, truth: Tensor, rounds: int = 3) -> Tensor:
    """Project heads with the best camera for each photo; the jaw line slides with the yaw that is found.

    Args:
        vertices: [N, V, 3].  truth: [N, 68, 2], crop NDC.
    Returns:
        [N, 68, 2], crop NDC.
    """
    yaw = torch.zeros(len(truth))
    projected = truth
    for _ in range(rounds):
        points = head.landmarks68(vertices, yaw)
        cameras = [fit_camera(p, t) for p, t in zip(points.double().numpy(), truth.double().numpy(), strict=True)]
        camera = Camera.from_vector(torch.from_numpy(np.stack(cameras)).float())
        yaw = camera.angles()[:, 0]
        projected = camera.project(points)[..., :2]
    return projected
