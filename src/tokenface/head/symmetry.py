"""Mirror map: the vertex on the other side of the head."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def mirror_map(vertices: np.ndarray, neighbours: int = 8) -> np.ndarray:
    """The vertex on the other side of the plane x = 0, for a nearly symmetric mesh.

    The result is its own inverse: pairs are formed from the nearest to the farthest, each vertex once; a vertex on
    the midline, or one without a partner, is its own mirror.

    Args:
        vertices: [V, 3], +x to the subject's left.
        neighbours: how many candidates per vertex are considered.
    Returns:
        [V] int32.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    count = len(vertices)
    tree = cKDTree(vertices * [-1, 1, 1])
    distances, candidates = tree.query(vertices, k=min(neighbours, count))
    distances, candidates = distances.reshape(count, -1), candidates.reshape(count, -1)
    first = np.repeat(np.arange(count), distances.shape[1])
    second, cost = candidates.ravel(), distances.ravel()
    keep = first <= second
    first, second, cost = first[keep], second[keep], cost[keep]
    mirror = np.full(count, -1, dtype=np.int32)
    for k in np.lexsort((second, first, cost)):
        i, j = first[k], second[k]
        if mirror[i] < 0 and mirror[j] < 0:
            mirror[i], mirror[j] = j, i
    alone = mirror < 0
    mirror[alone] = np.nonzero(alone)[0]
    return mirror


def mirror_error(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """[V] distance between each vertex and the reflection of its partner, in the unit of the vertices."""
    return np.linalg.norm(vertices - vertices[mirror] * [-1, 1, 1], axis=1)
