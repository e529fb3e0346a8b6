"""Colour of a head as a smooth field over its mesh: fitted where photos show it, harmonic where they do not.

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


def harmonic_field(
    data: HeadData, values: np.ndarray, weights: np.ndarray, prior: np.ndarray, scalp: np.ndarray
) -> np.ndarray:
    """[V, C] field.

    Args:
        values: [V, C] observations.  weights: [V] in [0, 1].
        prior: [V, C] or [C], taken where nothing is connected to anything observed.
        scalp: [V] bool.
    """
    count = len(data.template)
    edges = mesh_edges(data.faces)
    i, j = edges.T
    stiffness = np.where(scalp[i] == scalp[j], 1.0, HAIRLINE)
    mirror = np.asarray(data.mirror)
    shown = np.minimum(weights[mirror[i]], weights[mirror[j]])
    hidden = (1 - weights[i]) * (1 - weights[j])
    partner = values[mirror]
    wanted = (partner[i] - partner[j]) * (shown * hidden)[:, None]
    incidence = coo_matrix(
        (np.concatenate([np.ones(len(i)), -np.ones(len(i))]), (np.tile(np.arange(len(i)), 2), np.concatenate([i, j]))),
        shape=(len(i), count),
    ).tocsr()
    weighted = incidence.T @ diags(SMOOTH * stiffness)
    system = weighted @ incidence + diags(weights + FAINT)
    right = weights[:, None] * values + FAINT * np.broadcast_to(prior, values.shape) + weighted @ wanted
    return splu(system.tocsc()).solve(right)


def mesh_edges(faces: np.ndarray) -> np.ndarray:
    """[E, 2] pairs of vertices, each edge once."""
    faces = np.asarray(faces, np.int64)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)
