"""Rotation vectors and matrices (Rodrigues 1840; Markley 2008), differentiable, in plain torch.

The package roma does the same and is what the tests compare with, but importing it costs two seconds: it brings torch's
compiler along.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALL = 1e-6
"""Radians below which an angle counts as 0 in a denominator."""


def rotvec_to_rotmat(rotvec: Tensor) -> Tensor:
    """Rotation vectors [..., 3], radians, to matrices [..., 3, 3]: I + a K + b K², K v = r × v."""
    angle = torch.linalg.vector_norm(rotvec, dim=-1).clamp_min(SMALL)
    a = (torch.sin(angle) / angle)[..., None]
    b = 2 * (torch.sin(angle / 2) / angle) ** 2
    x, y, z = rotvec.unbind(-1)
    sx, sy, sz = (a * rotvec).unbind(-1)
    xy, xz, yz = b * x * y, b * x * z, b * y * z
    xx, yy, zz = b * x * x, b * y * y, b * z * z
    rows = [1 - yy - zz, xy - sz, xz + sy, xy + sz, 1 - xx - zz, yz - sx, xz - sy, yz + sx, 1 - xx - yy]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotmat_to_rotvec(matrix: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] to vectors [..., 3] of at most π radians."""
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    x, y, z = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    diagonal = [1 + m[0][0] - m[1][1] - m[2][2], 1 - m[0][0] + m[1][1] - m[2][2], 1 - m[0][0] - m[1][1] + m[2][2]]
    diagonal.append(1 + m[0][0] + m[1][1] + m[2][2])
    # 4 q qᵀ of the quaternion q = (x, y, z, w): each row is a multiple of q, the one with most on the diagonal is exact
    rows = [diagonal[0], xy, xz, x, xy, diagonal[1], yz, y, xz, yz, diagonal[2], z, x, y, z, diagonal[3]]
    outer = torch.stack(rows, dim=-1).unflatten(-1, (4, 4))
    best = torch.stack(diagonal, dim=-1).argmax(dim=-1)[..., None, None].expand(*matrix.shape[:-2], 1, 4)
    quaternion = outer.gather(-2, best).squeeze(-2)
    quaternion = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    quaternion = torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
    axis, w = quaternion[..., :3], quaternion[..., 3]
    sine = torch.linalg.vector_norm(axis, dim=-1)
    safe = sine.clamp_min(SMALL)
    factor = torch.where(sine > SMALL, 2 * torch.atan2(safe, w) / safe, 2 / w.clamp_min(0.5))
    return factor[..., None] * axis


def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in radians [...] between rotations [..., 3, 3]."""
    chord = torch.linalg.matrix_norm(a - b)  # 2 √2 sin(angle / 2)
    return 2 * torch.asin((chord / math.sqrt(8)).clamp(max=1))
