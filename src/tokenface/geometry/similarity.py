"""Similarity transforms, and the one that brings corresponding points together."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Similarity:
    """x ↦ scale · x · rotationᵀ + translation; the rotation is improper where a reflection was allowed."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3]

    def apply(self, points: np.ndarray) -> np.ndarray:
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: np.ndarray) -> np.ndarray:
        return (points - self.translation) @ self.rotation / self.scale

    def moved(self, centre: np.ndarray, turn: np.ndarray, shift: np.ndarray, growth: float = 1.0) -> Similarity:
        """This transform followed by a turn (axis-angle) and growth about a centre, and a shift."""
        matrix = cv2.Rodrigues(np.asarray(turn, dtype=np.float64))[0]
        translation = centre + growth * matrix @ (self.translation - centre) + shift
        return Similarity(self.scale * growth, matrix @ self.rotation, translation)


def procrustes(
    source: np.ndarray, target: np.ndarray, *, scale: float | None = None, reflection: bool = False
) -> Similarity:
    """The similarity that brings source [N, 3] onto target [N, 3] with least squared error (Umeyama 1991).

    Args:
        scale: keep this scale and find rotation and translation alone; None: find the scale too.
        reflection: allow a mirror image where it fits better.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    signs = np.ones(3)
    if not reflection:
        signs[2] = np.sign(np.linalg.det(u @ vt)) or 1.0
    rotation = u @ (signs[:, None] * vt)
    found = float((s * signs).sum() / (a**2).sum()) if scale is None else scale
    return Similarity(found, rotation, target.mean(0) - found * rotation @ source.mean(0))
