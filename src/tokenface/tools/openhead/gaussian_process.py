"""Gaussian-process deformation modes of the mean head (Lüthi et al.), which keep its parts together.

A field is a displacement [V, 3]. The kernel is a sum of squared exponentials: fine on the face, coarse everywhere. It
is represented by inducing points, K(x, Z)·K(Z, Z)^(−1/2), whose symmetric root is unique: no eigenvector signs,
so coefficients that were stored on one machine mean the same on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.tools.openhead.cut import HeadCut, face_weight


@dataclass(frozen=True)
class Kernel:
    """One squared exponential: correlation length and standard deviation in metres; face_only limits it to the face."""

    length: float
    std: float
    face_only: bool
    spacing: float  # distance of inducing points, metres


KERNELS = (
    Kernel(length=0.055, std=0.0030, face_only=False, spacing=0.040),
    Kernel(length=0.020, std=0.0020, face_only=True, spacing=0.014),
    Kernel(length=0.011, std=0.0008, face_only=True, spacing=0.010),
)
LID_REACH = 0.009
"""Metres from the eyeball's surface within which skin keeps its distance to the ball."""


def gp_basis(cut: HeadCut, kernels: tuple[Kernel, ...] = KERNELS) -> np.ndarray:
    """[V, C] scalar fields, metres, unit-variance coefficients; each acts on x, y and z alike."""
    columns = []
    face = face_weight(cut)
    for kernel in kernels:
        amplitude = kernel.std * (face if kernel.face_only else np.ones(cut.vertex_count))
        centres = inducing_points(cut, np.flatnonzero(amplitude > 0.05 * kernel.std), kernel.spacing)
        z = cut.vertices[centres]
        inner = _squared_exponential(z, z, kernel.length)
        value, vector = np.linalg.eigh(inner)
        root = (vector / np.sqrt(np.maximum(value, 1e-6))) @ vector.T
        columns.append(amplitude[:, None] * (_squared_exponential(cut.vertices, z, kernel.length) @ root))
    return np.concatenate(columns, axis=1)


def inducing_points(cut: HeadCut, candidates: np.ndarray, spacing: float) -> np.ndarray:
    """Mirror-symmetric farthest-point sample of skin vertices, about `spacing` metres apart."""
    skin = np.zeros(cut.vertex_count, dtype=bool)
    skin[cut.part("skin")] = True
    candidates = candidates[skin[candidates]]
    points = cut.vertices[candidates]
    chosen = [int(np.argmax(points[:, 2]))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    position = {int(v): k for k, v in enumerate(candidates)}
    while distance.max() > spacing:
        far = int(np.argmax(np.round(distance, 7)))
        for k in {far, position[int(cut.mirror[candidates[far]])]}:
            chosen.append(k)
            distance = np.minimum(distance, np.linalg.norm(points - points[k], axis=1))
    return np.sort(candidates[chosen])


def _squared_exponential(x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.exp(-np.maximum(squared, 0) / (2 * length**2))


class EyeKeeper:
    """Linear correction of displacement fields so that eyeballs move as solid balls and lids stay on them.

    A ball takes the mean motion of its lid margin; skin near the ball loses the part of its motion, relative to the
    ball, that points towards or away from the centre.
    """

    def __init__(self, cut: HeadCut):
        self._parts = []
        for name in ("left_eye", "right_eye"):
            ball = cut.part(name)
            centre = cut.vertices[ball].mean(0)
            radius = np.linalg.norm(cut.vertices[ball] - centre, axis=1).mean()
            skin = cut.part("skin")
            offset = cut.vertices[skin] - centre
            height = np.abs(np.linalg.norm(offset, axis=1) - radius)
            weight = np.clip(1 - (height / LID_REACH) ** 2, 0, 1) ** 2
            margin = skin[(height < 0.004) & (offset[:, 2] > 0.3 * radius)]
            direction = offset / np.linalg.norm(offset, axis=1, keepdims=True)
            near = weight > 0
            self._parts.append((ball, margin, skin[near], weight[near], direction[near]))

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """[..., V, 3] → the same, corrected."""
        fields = fields.copy()
        for ball, margin, skin, weight, direction in self._parts:
            motion = fields[..., margin, :].mean(-2, keepdims=True)
            fields[..., ball, :] = motion
            radial = ((fields[..., skin, :] - motion) * direction).sum(-1, keepdims=True)
            fields[..., skin, :] -= weight[:, None] * radial * direction
        return fields
