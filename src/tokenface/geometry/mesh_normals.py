"""Vertex normals and areas of one mesh, in NumPy; `normals` has batches of tensors."""

from __future__ import annotations

import numpy as np


def mesh_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`normals.vertex_normals` of one mesh: [V, 3] float64 of vertices [V, 3]; zero at a vertex without triangles."""
    corners = vertices[faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    owner, count = faces.T.ravel(), len(vertices)
    sums = np.stack([np.bincount(owner, np.tile(cross[:, axis], 3), count) for axis in range(3)], axis=1)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V] a third of the area of the triangles around each vertex, square metres."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return np.bincount(faces.ravel(), np.repeat(area / 3, 3), minlength=len(vertices))
