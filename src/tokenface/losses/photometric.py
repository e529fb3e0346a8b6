"""Photometric loss, rendering against photo (Eq. 8), and a penalty for lost overlap.

Eqs. 8 to 10 compare pixels where photo's face and rendering overlap. Without overlap there is nothing to compare, and
the comparison would be perfect; these two say that it is not, and where the face is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.render.renderer import RenderedFaces


def photometric_loss(rendered: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`‖m · (I − I_r)‖₁` per masked pixel (Eq. 8), averaged over the three colours.

    Args:
        rendered, image: [B, 3, S, S], sRGB in [0, 1] (the rendering may leave it).
        mask: [B, S, S] or [B, 1, S, S] in [0, 1]: the face on the photo, times what the rendering covers.
    Returns:
        [B] in grey levels of 1; 0 where the mask is empty (`recall_loss` is for those). The mean keeps large
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


def lost_share(photo_mask: Tensor, overlap: Tensor) -> Tensor:
    """Share of the photo's face that the rendering has lost: 0 while it covers half of it or more, 1 when it covers
    nothing.

    Args:
        photo_mask: [B, 1, S, S] in [0, 1], the face on the photo; empty where it is not known, then 0.
        overlap: [B, 1, S, S], `face_mask` of both.
    Returns:
        [B], without gradient.
    """
    face, covered = photo_mask.detach().flatten(1).sum(1), overlap.detach().flatten(1).sum(1)
    return torch.where(face > 0, (1 - 2 * covered / face.clamp_min(1e-6)).clamp(0, 1), torch.zeros_like(face))


def recall_loss(photo_mask: Tensor, overlap: Tensor, points: Tensor) -> Tensor:
    """`lost · (1 + |c(m) − c(x)|₁ + |ln r(x) − ln r(m)|)`: middle c and spread r of the projected points and of the
    photo's face, so that a head that lost the face finds back to it.

    Args:
        photo_mask, overlap: as above.  points: [B, N, 2], crop NDC, of the face; they get the gradient.
    Returns:
        [B], in crop half-widths and grey levels of 1: at least as large as any photometric loss of the lost part.
    """
    size = photo_mask.shape[-1]
    axis = (torch.arange(size, device=photo_mask.device, dtype=points.dtype) + 0.5) * (2 / size) - 1
    weight = photo_mask.detach()[:, 0].to(points)
    total = weight.sum((1, 2)).clamp_min(1e-6)
    columns, rows = weight.sum(1), weight.sum(2)
    middle = torch.stack([(columns * axis).sum(1), (rows * axis).sum(1)], dim=1) / total[:, None]
    spread = (columns * (axis - middle[:, :1]).square() + rows * (axis - middle[:, 1:]).square()).sum(1) / total
    own = points.mean(1)
    own_spread = (points - own[:, None]).square().sum(-1).mean(1)
    ratio = (own_spread.clamp_min(1e-6).log() - spread.clamp_min(1e-6).log()) / 2
    return lost_share(photo_mask, overlap).to(points) * (1 + (own - middle).abs().sum(1) + ratio.abs())
