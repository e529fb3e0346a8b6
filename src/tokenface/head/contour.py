"""Dynamic jaw contour that slides to the silhouette with yaw, for head models without one."""

from __future__ import annotations

import numpy as np

STEEPEST = 90
"""Degrees of yaw that the table reaches on both sides."""
FAR_SIDE = range(9, 17)
"""iBUG points that slide when the face turns to its left (yaw > 0), on the subject's left."""
STEPS = 90
INNERMOST = np.radians(14)


def vertices_as_triangles(faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[K] vertices → a triangle that has each, [K], and barycentrics with a single 1, [K, 3]."""
    first = np.full(int(faces.max()) + 1, -1, dtype=np.int64)
    corners = faces.ravel()
    first[corners[::-1]] = np.arange(len(corners))[::-1] // 3
    triangles = first[vertices]
    return triangles.astype(np.int32), (faces[triangles] == np.asarray(vertices)[:, None]).astype(np.float32)


def sliding_contour(
    template: np.ndarray, faces: np.ndarray, skin: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Contour rows for yaw −90° … 90°.

    The near side keeps the given points: annotators see that jaw line. A far-side point slides from its place along a
    path towards the middle of the face to where the path meets the visible edge of an orthographic view, that is to
    where x·cos(yaw) + z·sin(yaw) is greatest.

    Args:
        template: [V, 3], metres, symmetric about x = 0 or nearly so.
        faces: [F, 3].
        skin: [F] bool, the outer surface.
        landmarks: [68] vertices of the frontal points.
    Returns:
        triangles [181, 17] int32, barycentrics [181, 17, 3] float32, and the yaw of row 0 in degrees.
    """
    frontal_faces, frontal_weights = vertices_as_triangles(faces, landmarks[:17])
    rows = np.arange(-STEEPEST, STEEPEST + 1)
    table = np.tile(frontal_faces, (len(rows), 1))
    weights = np.tile(frontal_weights, (len(rows), 1, 1))
    numbers = np.flatnonzero(skin)
    for side in (1, -1):  # the other side is the same on the reflected mesh
        points = template * [side, 1, 1]
        corners = points[faces[numbers]]
        picks = points[landmarks]
        mouth, chin, temple = picks[51], picks[8], picks[16 if side > 0 else 0]
        for far in FAR_SIDE:
            point = far if side > 0 else 16 - far
            hits, hit_weights = _path(corners, picks[point], mouth, chin, temple)
            path_faces = np.concatenate([frontal_faces[[point]], numbers[hits]])
            path_weights = np.concatenate([frontal_weights[[point]], hit_weights])
            places = np.einsum("kc,kcd->kd", path_weights, points[faces[path_faces]])
            for degrees in range(1, STEEPEST + 1):
                angle = np.radians(degrees)
                edge = int(np.argmax(places[:, 0] * np.cos(angle) + places[:, 2] * np.sin(angle)))
                row = STEEPEST + side * degrees
                table[row, point], weights[row, point] = path_faces[edge], path_weights[edge]
    return table.astype(np.int32), weights.astype(np.float32), -STEEPEST


def _path(
    corners: np.ndarray, start: np.ndarray, mouth: np.ndarray, chin: np.ndarray, temple: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where horizontal rays from an axis inside the head leave the skin, from the start towards the midline.

    Their height blends from the start's to that of the mouth or cheek in front of it.
    """
    share = (start[1] - chin[1]) / (temple[1] - chin[1])  # 0 at the chin, 1 beside the eye
    end = (1 - share) * (0.6 * chin[1] + 0.4 * mouth[1]) + share * (0.75 * start[1] + 0.25 * mouth[1])
    axis = temple[2] - 0.012
    azimuth = np.arctan2(start[0], start[2] - axis)
    steps = np.linspace(0, 1, STEPS)[1:]
    angles = azimuth + (INNERMOST - azimuth) * steps
    heights = start[1] + (end - start[1]) * np.clip(steps * 1.2, 0, 1)
    found, weights = [], []
    low, high = corners[..., 1].min(1), corners[..., 1].max(1)
    for angle, height in zip(angles, heights, strict=True):
        near = np.flatnonzero((low <= height) & (high >= height))
        triangle, barycentric = _outermost_hit(
            np.array([0.0, height, axis]), np.array([np.sin(angle), 0.0, np.cos(angle)]), corners[near]
        )
        if triangle >= 0:
            found.append(int(near[triangle]))
            weights.append(barycentric)
    return np.array(found, dtype=np.int64), np.array(weights, dtype=np.float64).reshape(-1, 3)


def _outermost_hit(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> tuple[int, np.ndarray]:
    """Farthest of the triangles [F, 3, 3] that a ray meets (Möller and Trumbore 1997), or −1, with barycentrics."""
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(direction, edge2)
    determinant = (edge1 * p).sum(1)
    valid = np.abs(determinant) > 1e-14
    inverse = 1 / np.where(valid, determinant, 1)
    s = origin - corners[:, 0]
    q = np.cross(s, edge1)
    u, v, distance = (s * p).sum(1) * inverse, (q @ direction) * inverse, (edge2 * q).sum(1) * inverse
    valid &= (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0)
    if not valid.any():
        return -1, np.zeros(3)
    best = int(np.argmax(np.where(valid, distance, -np.inf)))
    return best, np.array([1 - u[best] - v[best], u[best], v[best]])
