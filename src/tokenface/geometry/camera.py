"""Scaled-orthographic camera of the paper (Sec. 3.1), `p = s·(R(r)·v) + t`, seven numbers per face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry import rotations


@dataclass(frozen=True)
class Camera:
    """One camera per face of a batch.

    scale: [B], crop half-widths per metre.  rotation: [B, 3], axis-angle, radians, head space to camera space.
    translation: [B, 3], in crop NDC units with y up, as the rotated head; z moves nothing on the picture.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    @staticmethod
    def from_vector(camera: Tensor) -> Camera:
        """[B, 7] `[s, r_x, r_y, r_z, t_x, t_y, t_z]` → Camera."""
        if camera.shape[-1] != 7:
            raise ValueError(f"camera has 7 numbers (scale, rotation, translation), got {tuple(camera.shape)}")
        return Camera(camera[..., 0], camera[..., 1:4], camera[..., 4:7])

    def to_vector(self) -> Tensor:
        return torch.cat([self.scale[..., None], self.rotation, self.translation], dim=-1)

    def rotation_matrix(self) -> Tensor:
        """[B, 3, 3], head space to camera space."""
        return rotations.rotvec_to_rotmat(self.rotation)

    def rotate(self, directions: Tensor) -> Tensor:
        """Head-space directions (normals) [B, V, 3] to camera space: x right, y up, z towards the viewer."""
        return directions @ self.rotation_matrix().transpose(-1, -2)

    def project(self, vertices: Tensor) -> Tensor:
        """Head space to crop NDC.

        Args:
            vertices: [B, V, 3], metres.
        Returns:
            [B, V, 3]: x right, y down in [-1, 1]; z is depth, smaller is nearer.
        """
        p = self.scale[..., None, None] * self.rotate(vertices) + self.translation[..., None, :]
        return torch.stack([p[..., 0], -p[..., 1], -p[..., 2]], dim=-1)

    def angles(self) -> Tensor:
        """[B, 3] yaw, pitch, roll in radians, R = Rz(roll) · Ry(yaw) · Rx(−pitch).

        Seen on a picture without roll, yaw is positive when the face turns to the right side (the subject's left),
        pitch when it looks up; roll is positive when the head is turned anticlockwise in the picture. Yaw and pitch do
        not change when the picture is rotated: they say from where the head is seen, which the jaw line depends on.
        """
        r = self.rotation_matrix()
        across = (r[..., 0, 0] ** 2 + r[..., 1, 0] ** 2).clamp(min=1e-12).sqrt()
        yaw = torch.atan2(-r[..., 2, 0], across)
        pitch = torch.atan2(-r[..., 2, 1], r[..., 2, 2])
        roll = torch.atan2(r[..., 1, 0], r[..., 0, 0])
        return torch.stack([yaw, pitch, roll], dim=-1)


def ndc_to_pixels(points: Tensor, size: int) -> Tensor:
    """Crop NDC [-1, 1] to crop pixels (pixel centres at +0.5): −1 is the left edge, +1 the right edge of the crop."""
    return (points[..., :2] + 1) * (size / 2)


def pixels_to_ndc(points: Tensor, size: int) -> Tensor:
    """Crop pixels (pixel centres at +0.5) to crop NDC."""
    return points[..., :2] * (2 / size) - 1


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
    from scipy.optimize import least_squares  # a second of imports, which a photo does not need

    up = points2d * np.array([1.0, -1.0])
    scale, rotation, shift = first_camera(points3d, up)
    turn = rotations.rotmat_to_rotvec(torch.from_numpy(rotation)).numpy()
    start = np.concatenate([[np.log(scale)], turn, shift])

    def residual(x: np.ndarray) -> np.ndarray:
        r = rotations.rotvec_to_rotmat(torch.from_numpy(x[1:4])).numpy()
        return (np.exp(x[0]) * points3d @ r[:2].T + x[4:6] - up).ravel()

    x = least_squares(residual, start, method="lm", max_nfev=200).x
    return np.array([np.exp(x[0]), *x[1:4], *x[4:6], 0.0])
