"""Nearest-point queries on a triangle mesh: one search tree, many queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokenface.errors import EvaluationError

try:
    import igl
except ImportError as error:
    raise EvaluationError(
        "distances to meshes need libigl; install it with: pip install 'tokenface[evaluate]'"
    ) from error


@dataclass(frozen=True)
class Nearest:
    """distances: [P], the mesh's unit.  triangles: [P].  points: [P, 3] on the surface."""

    distances: np.ndarray
    triangles: np.ndarray
    points: np.ndarray


class Surface:
    """Exact nearest points by libigl's bounding-box tree, which is built once, in the mesh's own space."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        """Args: vertices: [V, 3], finite.  faces: [F, 3], F ≥ 1."""
        self.vertices = np.ascontiguousarray(vertices, dtype=np.float64)
        self.faces = np.ascontiguousarray(faces, dtype=np.int64)
        if not len(self.faces):
            raise ValueError("a surface needs at least one triangle")
        self._tree = igl.AABB()
        self._tree.init(self.vertices, self.faces)

    def nearest(self, points: np.ndarray) -> Nearest:
        """Args: points: [P, 3]. Neighbours in space that are neighbours in the array are answered faster."""
        query = np.ascontiguousarray(points, dtype=np.float64)
        squared, triangles, closest = self._tree.squared_distance(self.vertices, self.faces, query)
        return Nearest(np.sqrt(np.maximum(squared, 0)), np.asarray(triangles).ravel(), closest)

    @cached_property
    def normals(self) -> np.ndarray:
        """[F, 3] unit normals; zero for triangles without area."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def spatial_order(points: np.ndarray, bits: int = 9) -> np.ndarray:
    """[P] permutation along a Morton curve: neighbours in the array are neighbours in space."""
    low = points.min(0)
    cell = ((points - low) * (((1 << bits) - 1) / max(float((points.max(0) - low).max()), 1e-300))).astype(np.uint32)
    key = np.zeros(len(points), dtype=np.uint32)
    for bit in range(bits):
        for axis in range(3):
            key |= ((cell[:, axis] >> np.uint32(bit)) & np.uint32(1)) << np.uint32(3 * bit + axis)
    return np.argsort(key, kind="stable")
