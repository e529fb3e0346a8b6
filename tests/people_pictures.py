"""Rendered people, several pictures of each, as photos would show them."""

from __future__ import annotations

import numpy as np
import roma
import torch

from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head

SIDE = 192


def rendered_people(people: int, pictures: int, seed: int, turn: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [people · pictures, 192, 192, 3] uint8, and landmarks [·, 68, 2] float32 in their pixels; a person's
    pictures follow each other and share shape, skin and hair."""
    generator, count = torch.Generator().manual_seed(seed), people * pictures
    rotation = roma.rotvec_to_rotmat(turn * torch.randn(count, 3, generator=generator))
    faces = SyntheticFaces(load_head("openhead"), SIDE)
    batch = faces.sample(count, generator, images_per_identity=pictures, plain=True, rotation=rotation)
    images = (batch.image * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return images, ((batch.landmarks68 + 1) * (SIDE / 2)).numpy()
