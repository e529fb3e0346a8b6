"""Photometric loss: the rendered face against the photo (Eq. 8)."""

from __future__ import annotations

from torch import Tensor

from tokenface.render.renderer import RenderedFaces


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
