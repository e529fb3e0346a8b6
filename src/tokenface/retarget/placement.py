"""How one head stands in another's space: scale, rotation, translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True, eq=False)
class Placement:
    """x ↦ scale · R x + t from the converted head's space to the original's.

    rotation: [3, 3].  translation: [3], metres.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    @staticmethod
    def identity() -> Placement:
        return Placement(1.0, np.eye(3), np.zeros(3))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] → [..., 3]."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `apply`."""
        return (points - self.translation) @ self.rotation / self.scale

    def moved(self, step: np.ndarray) -> Placement:
        """After the points in the converted head's space moved by step [7]: rotation, translation, log scale
        (`head.build.fitting.similarity_motion` is the derivative)."""
        turn, grow = Rotation.from_rotvec(step[:3]).as_matrix(), float(np.exp(step[6]))
        # new = grow · turn · old + step, old = (x − t) R / s: solved for x
        scale, rotation = self.scale / grow, self.rotation @ turn.T
        return Placement(scale, rotation, self.translation - scale * rotation @ step[3:6])
