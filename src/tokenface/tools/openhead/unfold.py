"""Local smoothing of an identity basis where random people would flip triangles: lid creases, mouth corners."""

from __future__ import annotations

import logging

import numpy as np
from scipy.sparse import coo_matrix, diags

from tokenface.tools.openhead.cut import HeadCut

MARGIN = 3.6
"""A triangle may turn over no sooner than this many standard deviations out (to first order)."""
ROUNDS = 60
SLIVER = 0.3e-6
"""Square metres: thinner triangles of the mean head have no orientation that anybody could see."""

logger = logging.getLogger(__name__)


def unfold(cut: HeadCut, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Average the displacements of offending vertices with their neighbours' until every triangle keeps its margin.

    Args:
        mean: [V, 3].  basis: [S, V, 3].
    Returns:
        [S, V, 3]; equal to the input away from the few vertices concerned.
    """
    basis = basis.copy()
    edges = np.concatenate([cut.faces[:, [0, 1]], cut.faces[:, [1, 2]], cut.faces[:, [2, 0]]])
    links = coo_matrix((np.ones(2 * len(edges)), (edges.ravel(), edges[:, ::-1].ravel())), (cut.vertex_count,) * 2)
    links = (links.tocsr() > 0).astype(np.float64)
    average = (diags(1 / np.asarray(links.sum(1)).ravel()) @ links).tocsr()
    faces = sizeable_triangles(mean, cut.faces)
    for number in range(ROUNDS):
        tight = relative_area_std(mean, basis, faces) > 1 / MARGIN
        logger.debug("unfolding, round %d: %d triangles", number, tight.sum())
        if not tight.any():
            break
        concerned = np.zeros(cut.vertex_count, dtype=bool)
        concerned[faces[tight]] = True
        for _ in range(number // 12):  # reach farther when neighbours alone do not settle it
            concerned |= links @ concerned > 0
        rows = np.flatnonzero(concerned | concerned[cut.mirror])
        for axis in range(3):
            blurred = (average[rows] @ basis[:, :, axis].T).T
            basis[:, rows, axis] = 0.5 * basis[:, rows, axis] + 0.5 * blurred
    return basis


def sizeable_triangles(mean: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Those rows of faces [F, 3] that are not slivers on the mean head."""
    return faces[np.linalg.norm(_normals(mean, faces), axis=1) / 2 > SLIVER]


def relative_area_std(mean: np.ndarray, basis: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[F] standard deviation, over the population, of a triangle's area seen along the mean head's normal, relative.

    −1 is a triangle about to turn over; to first order in the coefficients.
    """
    a, b, c = (mean[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    squared = (normal**2).sum(1)
    # d(n·((b−a)×(c−a))) = δa·(n×(b−c)) + δb·(n×(c−a)) + δc·(n×(a−b)), up to sign
    gradients = [np.cross(c - b, normal), np.cross(a - c, normal), np.cross(b - a, normal)]
    change = sum(-np.einsum("sfd,fd->sf", basis[:, faces[:, k]], gradients[k]) for k in range(3)) / squared
    return np.sqrt((change**2).sum(0))


def flipped(mean: np.ndarray, people: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[P, F] bool: triangles whose normal turned by more than 90° against the mean head's."""
    return (_normals(people, faces) * _normals(mean, faces)).sum(-1) < 0


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[..., faces[:, k], :] for k in range(3))
    return np.cross(b - a, c - a)
