"""One person, several scans: another picture's shape with one's own expression must give one's own mesh (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tokenface.losses.mesh import mesh_loss
from tokenface.losses.swapping import SwapPairs
from tokenface.parameters import FaceParameters

MeshDistance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predicted and true vertices [P, V, 3] and weights [V] → [P]: `mesh_loss` or one of its forms free of pose."""


def vertex_consistency_loss(
    vertices: Callable[[FaceParameters], Tensor],
    parameters: FaceParameters,
    truth: Tensor,
    weights: Tensor,
    pairs: SwapPairs,
    distance: MeshDistance = mesh_loss,
) -> Tensor:
    """`w |V(β_a, ψ_b, θ_b) − V_gt^b|₁` for every pair of scans of one person (Eq. 5).

    Args:
        vertices: head model or subset, parameters of P faces → [P, V, 3], metres.
        parameters: of the batch of B scans.  truth: [B, V, 3], metres, expressive where the scan is.
        weights: [V] region weights, sum to 1.  pairs: from `swap_pairs`.
        distance: the paper's is `mesh_loss`.
    Returns:
        [P], metres; sum over a person's pairs is the paper's, `mean_over_pairs` is what batches of any mixture want.
    """
    return distance(vertices(pairs.swapped(parameters)), truth[pairs.taker], weights)
