"""The rendered face against the photo (Eq. 8), and with the shape of another photo of the same person (Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tokenface.losses.coverage import lost_share
from tokenface.losses.swapping import SwapPairs
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import RenderedFaces

Draw = Callable[[FaceParameters], RenderedFaces]
"""Parameters → pictures of the photos' size: `Renderer.render` with its size and region weights bound."""


def photometric_loss(rendered: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`‖m · (I − I_r)‖₁` per masked pixel (Eq. 8), averaged over the three colours.

    Args:
        rendered, image: [B, 3, S, S], sRGB in [0, 1] (the rendering may leave it).
        mask: [B, S, S] or [B, 1, S, S] in [0, 1]: the face on the photo, times what the rendering covers.
    Returns:
        [B] in grey levels of 1; 0 where the mask is empty (`coverage.recall_loss` is for those). The mean keeps large
        and small faces alike; times the masked area it is the paper's sum.
    """
    mask = mask.reshape(len(image), 1, *image.shape[2:]).to(rendered.dtype)
    difference = ((rendered - image).abs() * mask).sum((1, 2, 3))
    return difference / (3 * mask.sum((1, 2, 3))).clamp_min(1.0)


def face_mask(photo_mask: Tensor, rendered: RenderedFaces) -> Tensor:
    """[B, 1, S, S]: the photo's face mask ([B, 1, S, S] or [B, S, S]) where the face model covers it too.

    The mask is a constant: a head that shrinks away from the photo's pixels must not be paid for it by the gradient.
    """
    weight = rendered.weight.detach()[:, None]
    return photo_mask.reshape(weight.shape) * weight


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
    overlap = face_mask(mask[pairs.taker], rendered)
    return photometric_loss(rendered.image, image[pairs.taker], overlap) + lost_share(mask[pairs.taker], overlap)
