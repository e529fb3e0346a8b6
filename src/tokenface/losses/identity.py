"""Identity loss: cosine distance of recognition features of rendering and photo (Eq. 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.identity.alignment import IdentityEncoder
from tokenface.identity.encoder import faces_for


def cosine_identity_loss(photo_features: Tensor, rendered_features: Tensor) -> Tensor:
    """`1 − f(I)·f(I_r) / (‖f(I)‖₂ ‖f(I_r)‖₂)` (Eq. 10): [B, D] each → [B] in [0, 2]."""
    return 1 - F.cosine_similarity(photo_features, rendered_features, dim=-1, eps=1e-8)


def identity_loss(
    encoder: IdentityEncoder, image: Tensor, rendered: Tensor, mask: Tensor, landmarks68: Tensor
) -> Tensor:
    """Eq. 10 on faces as the encoder wants them; where it wants them aligned, both pictures are by the photo's
    landmarks. Both share the photo's surroundings.

    Args:
        encoder: frozen by the caller or not, its features of the photo are taken without gradient.
        image: [B, 3, S, S] in [0, 1].  rendered: [B, 3, S, S].
        mask: [B, 1, S, S] what the rendering covers; elsewhere the photo shows through, so that hair and background
            are no difference between the two.
        landmarks68: [B, 68, 2], crop NDC.
    Returns:
        [B].
    """
    composed = image + (rendered.clamp(0, 1) - image) * mask
    with torch.no_grad():
        wanted = encoder(faces_for(encoder, image, landmarks68))
    return cosine_identity_loss(wanted, encoder(faces_for(encoder, composed, landmarks68)))
