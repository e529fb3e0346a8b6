"""Exact closest points on a triangle mesh: brute force with early rejection, in Numba, parallel over queries."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from tokenface.geometry.mesh_normals import mesh_normals


def closest_on_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point the nearest triangle and where on it (Ericson, Real-Time Collision Detection, 5.1.5).

    Args:
        points: [N, 3].  vertices: [V, 3].  faces: [F, 3].
    Returns:
        triangle [N] and barycentrics [N, 3] of the closest point.
    """
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    centre = corners.mean(1)
    radius = np.sqrt(((corners - centre[:, None]) ** 2).sum(2).max(1))
    return _closest(np.ascontiguousarray(points, dtype=np.float64), corners, centre, radius)


def on_triangles(vertices: np.ndarray, faces: np.ndarray, triangle: np.ndarray, barycentrics: np.ndarray) -> np.ndarray:
    """[..., V, 3] → the points [..., N, 3]."""
    return (vertices[..., faces[triangle], :] * barycentrics[:, :, None]).sum(-2)


def exposed(vertices: np.ndarray, faces: np.ndarray, chosen: np.ndarray, clearance: float = 0.015) -> np.ndarray:
    """Whether nothing of the mesh lies straight above a vertex, so that a scanner sees it: not nostrils or mouths.

    Args:
        vertices: [V, 3].  faces: [F, 3].  chosen: [K] vertex numbers.  clearance: how far to look along the normal.
    Returns:
        [K] bool.
    """
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    normals = mesh_normals(vertices, faces)[chosen]
    starts = vertices[chosen] + 0.05 * clearance * normals
    return _free(starts, normals, corners, faces.astype(np.int64), np.asarray(chosen, dtype=np.int64), clearance)


def seen_from(
    directions: np.ndarray, vertices: np.ndarray, faces: np.ndarray, chosen: np.ndarray, size: float
) -> np.ndarray:
    """Whether a vertex is seen by at least one far camera: the inside of lips, nostrils and lids is not.

    Args:
        directions: [D, 3] unit vectors towards the cameras.  vertices: [V, 3].  faces: [F, 3].
        chosen: [K] vertex numbers.  size: of the whole surface; nothing farther away can hide a vertex.
    Returns:
        [K] bool.
    """
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    normals = mesh_normals(vertices, faces)[chosen]
    seen = np.zeros(len(chosen), dtype=bool)
    for direction in directions:
        ask = np.flatnonzero(~seen & (normals @ direction > 0.15))
        starts = vertices[chosen[ask]] + 1e-4 * size * normals[ask]
        towards = np.ascontiguousarray(np.broadcast_to(direction, starts.shape), dtype=np.float64)
        seen[ask] = _free(starts, towards, corners, faces.astype(np.int64), chosen[ask].astype(np.int64), size)
    return seen


@njit(cache=True, parallel=True)
def _free(starts, directions, corners, faces, own, clearance):  # pragma: no cover - compiled
    free = np.ones(len(starts), dtype=np.bool_)
    for i in prange(len(starts)):
        origin, direction = starts[i], directions[i]
        for f in range(corners.shape[0]):
            if faces[f, 0] == own[i] or faces[f, 1] == own[i] or faces[f, 2] == own[i]:
                continue
            a = corners[f, 0]
            edge1, edge2 = corners[f, 1] - a, corners[f, 2] - a
            p = _cross(direction, edge2)
            determinant = _dot(edge1, p)
            if abs(determinant) < 1e-30:
                continue
            offset = origin - a
            u = _dot(offset, p) / determinant
            if u < 0 or u > 1:
                continue
            q = _cross(offset, edge1)
            v = _dot(direction, q) / determinant
            distance = _dot(edge2, q) / determinant
            if v >= 0 and u + v <= 1 and 0 < distance < clearance:
                free[i] = False
                break
    return free


@njit(cache=True)
def _cross(a, b):  # pragma: no cover - compiled
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@njit(cache=True, parallel=True)
def _closest(points, corners, centre, radius):  # pragma: no cover - compiled
    count = points.shape[0]
    triangle = np.zeros(count, dtype=np.int64)
    barycentrics = np.zeros((count, 3))
    for i in prange(count):
        p = points[i]
        # the nearest centre bounds the distance; triangles whose bounding sphere is farther are rejected
        bound = np.inf
        for f in range(corners.shape[0]):
            d = _distance(p, centre[f]) + radius[f]
            if d < bound:
                bound = d
        best = np.inf
        for f in range(corners.shape[0]):
            if _distance(p, centre[f]) - radius[f] > min(bound, np.sqrt(best)):
                continue
            u, v, w = _on_triangle(p, corners[f, 0], corners[f, 1], corners[f, 2])
            d = 0.0
            for k in range(3):
                d += (p[k] - u * corners[f, 0, k] - v * corners[f, 1, k] - w * corners[f, 2, k]) ** 2
            if d < best:
                best = d
                triangle[i] = f
                barycentrics[i, 0], barycentrics[i, 1], barycentrics[i, 2] = u, v, w
    return triangle, barycentrics


@njit(cache=True)
def _distance(a, b):  # pragma: no cover - compiled
    return np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)


@njit(cache=True)
def _dot(a, b):  # pragma: no cover - compiled
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def _on_triangle(p, a, b, c):  # pragma: no cover - compiled
    ab, ac, ap = b - a, c - a, p - a
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    if d1 <= 0 and d2 <= 0:
        return 1.0, 0.0, 0.0
    bp = p - b
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    if d3 >= 0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        t = d1 / (d1 - d3)
        return 1 - t, t, 0.0
    cp = p - c
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    if d6 >= 0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        t = d2 / (d2 - d6)
        return 1 - t, 0.0, t
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 0.0, 1 - t, t
    total = va + vb + vc
    if total <= 0:
        return 1.0, 0.0, 0.0
    return 1 - vb / total - vc / total, vb / total, vc / total
