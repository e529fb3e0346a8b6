"""Distance from a scan to a predicted mesh after rigid alignment with scale, as the NoW protocol has it."""

from __future__ import annotations

from dataclasses import dataclass

import igl
import numpy as np


@dataclass(frozen=True)
class Similarity:
    """x ↦ scale · x · rotationᵀ + translation."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3]

    def apply(self, points: np.ndarray) -> np.ndarray:
        return self.scale * points @ self.rotation.T + self.translation


def procrustes(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity that brings source [N, 3] onto target [N, 3] with least squared error (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = float((s * np.diag(sign)).sum() / (a**2).sum())
    return Similarity(scale, rotation, target.mean(0) - scale * rotation @ source.mean(0))


def crop_face(vertices: np.ndarray, now7: np.ndarray) -> np.ndarray:
    """Mask [V] of the NoW face region: a ball about the lower nose.

    Args:
        vertices: [V, 3].  now7: [7, 3] eye corners right to left, nose bottom, right and left mouth corner.
    """
    bridge, bottom = (now7[1] + now7[2]) / 2, now7[4]
    centre = bottom + 0.3 * (bridge - bottom)
    radius = 1.4 * (np.linalg.norm(now7[0] - now7[3]) + np.linalg.norm(bridge - bottom)) / 2
    return np.linalg.norm(vertices - centre, axis=1) <= radius


def scan_to_mesh_distances(
    scan: np.ndarray,
    scan_landmarks: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    landmarks: np.ndarray,
    iterations: int = 30,
) -> np.ndarray:
    """Unsigned distances of scan points to the aligned prediction.

    Args:
        scan: [P, 3], already cropped.  scan_landmarks: [7, 3].
        vertices: [V, 3], faces: [F, 3], landmarks: [7, 3] of the prediction, any unit.
        iterations: closest-point rounds of the refinement.
    Returns:
        [P], in the scan's unit.
    """
    pose = procrustes(landmarks, scan_landmarks)
    faces = np.ascontiguousarray(faces, dtype=np.int64)
    scan = np.ascontiguousarray(scan, dtype=np.float64)
    mesh = np.ascontiguousarray(vertices, dtype=np.float64)
    previous = np.inf
    for _ in range(iterations):
        squared, _, closest = igl.point_mesh_squared_distance(scan, pose.apply(mesh), faces)[:3]
        error = float(squared.mean())
        if previous - error < 1e-5 * previous:
            break
        previous = error
        local = (closest - pose.translation) @ pose.rotation / pose.scale
        pose = procrustes(local, scan)
    squared = igl.point_mesh_squared_distance(scan, pose.apply(mesh), faces)[0]
    return np.sqrt(np.maximum(squared, 0))
