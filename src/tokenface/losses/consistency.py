"""Shape consistency, target images rendered with the source's shape: on scans (Eq. 5) and on photos (Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tokenface.losses.coverage import lost_share
from tokenface.losses.mesh import mesh_loss
from tokenface.losses.photometric import face_mask, photometric_loss
from tokenface.losses.swapping import SwapPairs
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import RenderedFaces

MeshDistance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predicted and true vertices [P, V, 3] and weights [V] → [P]: `mesh_loss` or one of its forms free of pose."""
Draw = Callable[[FaceParameters], RenderedFaces]
"""Parameters → pictures of the photos' size: `Renderer.render` with its size and region weights bound."""


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
    return distance(vertices(pairs.swapped(parameters)), truth[pairs.target], weights)


def shape_consistency_loss(
    draw: Draw, parameters: FaceParameters, image: Tensor, mask: Tensor, pairs: SwapPairs
) -> Tensor:
    """`m ‖I(β_a, ψ_b, θ_b, C_b, α_b, ι_b) − I_gt^b‖₁` for every pair of photos of one person (Eq. 9).

    Args:
        draw: see `Draw`.  parameters: of the B photos.  image: [B, 3, S, S].  mask: [B, 1, S, S], the photos' own.
        pairs: from `swap_pairs`.
    Returns:
        [P], as `photometric_loss`; 1 more where the rendering lost the photo's face.
    """
    if len(pairs) == 0:
        return image.new_zeros(0)
    rendered = draw(pairs.swapped(parameters))
    overlap = face_mask(mask[pairs.target], rendered)
    return photometric_loss(rendered.image, image[pairs.target], overlap) + lost_share(mask[pairs.target], overlap)
