"""Texture and light from real photos: the photometric loss (Eq. 8) with the geometry held."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tokenface.head.model import HeadModel
from tokenface.losses.photometric import face_mask, photometric_loss
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer

SIZE = 64
"""Pixels of the pictures that are compared: albedo and light of nine harmonics have no finer detail."""


class ColourObjective:
    """Draws faces small and compares their face region with the photos.

    Shape, expression, jaw and camera get no gradient: on photos they follow landmarks and self-training, and pixels
    would pull them towards shadows and hair. What covers the face costs a bounded error (L1).
    """

    def __init__(self, head: HeadModel):
        self.renderer = Renderer(head).to(head.template.device)
        self.face_weights = self.renderer.face_weights()

    def __call__(self, parameters: FaceParameters, images: Tensor) -> Tensor:
        """images: [B, 3, S, S] in [0, 1] → [B], grey levels of 1."""
        held = parameters.detach().replace(texture=parameters.texture, light=parameters.light)
        rendered = self.renderer.render(held, SIZE, vertex_weights=self.face_weights)
        small = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        mask = face_mask(small.new_ones(len(small), 1, SIZE, SIZE), rendered)
        return photometric_loss(rendered.image, small, mask)
