"""Harmonic colour field over the head mesh: data term where photos show it, Laplace's equation elsewhere.

The field lives on vertices, which know nothing of the texture layout's seams, so none can show. Per colour it is the
minimum of

    Σᵢ wᵢ (xᵢ − oᵢ)²  +  λ Σ₍ᵢⱼ₎ sᵢⱼ (xᵢ − xⱼ − gᵢⱼ)²,

o being observations with weights w, the second sum over edges, and g the differences that the other side of the head
shows where this one is hidden (a mirrored Poisson fill [Pérez et al., 2003]), else 0.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu

from tokenface.head.data import HeadData

SMOOTH = 0.25
"""λ, over a whole observation of every vertex."""
HAIRLINE = 0.02
"""Of an edge between scalp and skin: one's colour does not run into the other's."""
FAINT = 1e-4
"""Weight of the prior at every vertex: a surface that no photo shows anything of takes it."""


class HeadGraph:
    """Vertices and edges of one head model, ready to solve on.

    Args:
        scalp: [V] bool.
    """

    def __init__(self, data: HeadData, scalp: np.ndarray) -> None:
        self.count, self.mirror = len(data.template), np.asarray(data.mirror)
        self.edges = mesh_edges(data.faces)
        first, second = self.edges.T
        number, ones = np.arange(len(first)), np.ones(len(first))
        incidence = coo_matrix(
            (
                np.concatenate([ones, -ones]),
                (np.concatenate([number, number]), np.concatenate([first, second])),
            ),
            shape=(len(first), self.count),
        ).tocsr()
        stiffness = np.where(scalp[first] == scalp[second], 1.0, HAIRLINE)
        self._weighted = (incidence.T @ diags(SMOOTH * stiffness)).tocsr()
        self._laplacian = (self._weighted @ incidence).tocsc()

    def field(self, values: np.ndarray, weights: np.ndarray, prior: np.ndarray, mirrored: bool = True) -> np.ndarray:
        """[V, C] field.

        Args:
            values: [V, C] observations.  weights: [V] in [0, 1].
            prior: [V, C] or [C], taken where nothing is connected to anything observed.
            mirrored: hidden sides take the differences that the other side shows.
        """
        values = np.asarray(values, np.float64)
        right = weights[:, None] * values + FAINT * np.broadcast_to(prior, values.shape)
        if mirrored:
            i, j = self.edges.T
            shown = np.minimum(weights[self.mirror[i]], weights[self.mirror[j]])
            hidden = (1 - weights[i]).clip(0) * (1 - weights[j]).clip(0)
            partner = values[self.mirror]
            right = right + self._weighted @ ((partner[i] - partner[j]) * (shown * hidden)[:, None])
        matrix = self._laplacian + diags(weights + FAINT).tocsc()
        # symmetric and positive definite: no pivoting, a third of the time
        solver = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        return solver.solve(right)


def mesh_edges(faces: np.ndarray) -> np.ndarray:
    """[E, 2] pairs of vertices, each edge once."""
    faces = np.asarray(faces, np.int64)
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    key = np.unique(pairs[:, 0] << 32 | pairs[:, 1])
    return np.stack([key >> 32, key & 0xFFFFFFFF], axis=1)
