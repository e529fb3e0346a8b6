"""Similarity transforms between corresponding points (Umeyama 1991).

`procrustes` for one set of points, `aligned` for many shapes with weights; `batched_similarity` has torch's.
"""

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

    @staticmethod
    def identity() -> Similarity:
        return Similarity(1.0, np.eye(3), np.zeros(3))

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
    """The similarity that brings source [N, 3] onto target [N, 3] with least squared error.

    Args:
        scale: keep this scale and find rotation and translation alone; None: find the scale too.
        reflection: allow a mirror image where it fits better.
    """
    centre, middle = source.mean(0), target.mean(0)
    rotation, found = _umeyama(source - centre, target - middle, np.ones(len(source)), reflection)
    factor = float(found) if scale is None else scale
    return Similarity(factor, rotation, middle - factor * rotation @ centre)


def aligned(shapes: np.ndarray, target: np.ndarray, weights: np.ndarray, scale: bool = True) -> np.ndarray:
    """Each shape brought onto the target by its weighted similarity.

    Args:
        shapes: [P, V, 3].  target: [V, 3].  weights: [V], sum 1.
    Returns:
        [P, V, 3].
    """
    middle = (weights[:, None] * target).sum(0)
    moved = shapes - np.einsum("v,pvc->pc", weights, shapes)[:, None]
    rotation, factor = _umeyama(moved, target - middle, weights)
    if not scale:
        factor = np.ones(len(shapes))
    return factor[:, None, None] * np.einsum("pij,pvj->pvi", rotation, moved) + middle


def _umeyama(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray, reflection: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [..., 3, 3] and scales [...] of centred points [..., N, 3] onto centred points [N, 3]."""
    u, s, vt = np.linalg.svd((weights[:, None] * target).T @ source)
    signs = np.ones_like(s)
    if not reflection:
        sign = np.sign(np.linalg.det(u @ vt))
        signs[..., 2] = np.where(sign == 0, 1.0, sign)
    rotation = (u * signs[..., None, :]) @ vt
    return rotation, (s * signs).sum(-1) / (weights[:, None] * source**2).sum((-2, -1))
