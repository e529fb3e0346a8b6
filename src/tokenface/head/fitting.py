"""Fit of a linear head model to a surface: landmarks, then closest points, Gaussian prior on the coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from tokenface.geometry.closest import closest_on_mesh, on_triangles
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.similarity import aligned


@dataclass(frozen=True)
class Surface:
    """A scan in any place and size: points, outward unit normals [N, 3]; landmarks [L, 3], their model vertices [L]."""

    points: np.ndarray
    normals: np.ndarray
    landmarks: np.ndarray
    landmark_vertices: np.ndarray


@dataclass(frozen=True)
class Fit:
    """coefficients [K]; vertices [V, 3] of the model; points [N, 3]: the scan moved into the model's space."""

    coefficients: np.ndarray
    vertices: np.ndarray
    points: np.ndarray


def fit_surface(
    mean: np.ndarray,
    basis: np.ndarray,
    faces: np.ndarray,
    surface: Surface,
    *,
    noise: Sequence[float] = (0.003, 0.002, 0.0015, 0.001, 0.0008, 0.0006, 0.0005, 0.0005),
    landmark_noise: float = 0.003,
    reach: float = 0.012,
    skin: np.ndarray | None = None,
) -> Fit:
    """Maximum a posteriori coefficients under point-to-plane noise that shrinks from step to step.

    Args:
        mean: [V, 3].  basis: [K, V, 3], unit-variance coefficients; K may be 0 (similarity alone).
        noise: standard deviation of a scan point's distance per step, metres.
        reach: pairs farther apart than this, or with normals more than 53° apart, are dropped.
        skin: [F'] the triangles that scans may touch (no mouth cavity); None: all.
    """
    faces_used = faces if skin is None else faces[skin]
    unknowns = len(basis)
    flat = np.ascontiguousarray(basis.reshape(unknowns, mean.size).T)
    coefficients = np.zeros(unknowns)
    weights = np.full(len(surface.landmark_vertices), 1 / len(surface.landmark_vertices))
    both = np.concatenate([surface.landmarks, surface.points, surface.points + surface.normals])
    count = len(surface.landmarks)
    moved = _similarity(both, surface.landmarks, mean[surface.landmark_vertices], weights)
    vertices = mean
    for step, sigma in enumerate((np.inf, *noise)):
        vertex_normal = mesh_normals(vertices, faces)
        rows, values = [], []
        # landmarks: three equations each, softer as the surface takes over
        landmark_sigma = landmark_noise * (1 if step == 0 else 2)
        target = moved[:count] - mean[surface.landmark_vertices]
        rows.append(
            basis[:, surface.landmark_vertices].transpose(1, 2, 0).reshape(3 * count, unknowns) / landmark_sigma
        )
        motion = similarity_motion(moved[:count])
        motions = [motion.reshape(-1, 7) / landmark_sigma]
        values.append(target.ravel() / landmark_sigma)
        if np.isfinite(sigma):
            points, normals = moved[count : count + len(surface.points)], moved[count + len(surface.points) :]
            normals = normals - points
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            triangle, barycentrics = closest_on_mesh(points, vertices, faces_used)
            nearest = on_triangles(vertices, faces_used, triangle, barycentrics)
            normal = on_triangles(vertex_normal, faces_used, triangle, barycentrics)
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
            distance = np.linalg.norm(points - nearest, axis=1)
            good = (distance < reach) & ((normal * normals).sum(1) > 0.6)
            # a robust weight for pairs that do not belong together (hair, clothes)
            weight = np.sqrt(1 / (1 + (distance[good] / (4 * sigma + 0.002)) ** 2)) / sigma
            corner, share = faces_used[triangle[good]], barycentrics[good]
            direction = normal[good]
            rows.append(_along(corner, share, direction, flat) * weight[:, None])
            base = (mean[corner] * share[:, :, None]).sum(1)
            values.append(((points[good] - base) * direction).sum(1) * weight)
            motions.append(np.einsum("ndj,nd->nj", similarity_motion(points[good]), direction) * weight[:, None])
        a = np.concatenate([np.concatenate(rows), -np.concatenate(motions)], axis=1)
        normal_matrix = a.T @ a
        normal_matrix[np.arange(unknowns), np.arange(unknowns)] += 1.0
        solution = np.linalg.solve(normal_matrix + 1e-9 * np.eye(len(normal_matrix)), a.T @ np.concatenate(values))
        coefficients = solution[:unknowns]
        # move the scan by the small similarity, exactly
        moved = _move(moved, solution[unknowns:])
        vertices = mean + np.tensordot(coefficients, basis, 1) if unknowns else mean
    return Fit(coefficients, vertices, moved[count : count + len(surface.points)])


def _along(corner: np.ndarray, share: np.ndarray, direction: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Motion along a direction of points on triangles, per coefficient: flat [V·3, K] → [N, K]."""
    count = len(corner)
    columns = corner[:, :, None] * 3 + np.arange(3)
    values = share[:, :, None] * direction[:, None, :]
    rows = np.repeat(np.arange(count), 9)
    return csr_matrix((values.ravel(), (rows, columns.ravel())), (count, len(flat))) @ flat


def similarity_motion(points: np.ndarray) -> np.ndarray:
    """[N, 3] → [N, 3, 7] derivative of the moved points: rotation about the origin, translation, log scale."""
    motion = np.zeros((len(points), 3, 7))
    x, y, z = points.T
    motion[:, 1, 0], motion[:, 2, 0] = -z, y
    motion[:, 0, 1], motion[:, 2, 1] = z, -x
    motion[:, 0, 2], motion[:, 1, 2] = -y, x
    motion[:, [0, 1, 2], [3, 4, 5]] = 1
    motion[:, :, 6] = points
    return motion


def _move(points: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    turned = Rotation.from_rotvec(parameters[:3]).apply(points)
    return turned * np.exp(parameters[6]) + parameters[3:6]


def _similarity(points: np.ndarray, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Move all points by the similarity that takes source to target (closed form)."""
    centre_source, centre_target = source.mean(0), target.mean(0)
    # recover rotation and scale from how `align` moves the source and three unit vectors
    extended = np.concatenate([source, centre_source + np.eye(3), centre_source[None]])
    padded = np.concatenate([weights, np.zeros(4)])
    moved = aligned(extended[None], np.concatenate([target, np.zeros((4, 3))]), padded)[0]
    matrix = (moved[len(source) : len(source) + 3] - moved[-1]).T
    return (points - centre_source) @ matrix.T + centre_target
