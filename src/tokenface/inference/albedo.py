"""The albedo texture of one face as a picture."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from tokenface.head.model import HeadModel
from tokenface.render.texture import HeadAlbedo

PLAIN_SKIN = (200, 170, 152)
"""sRGB of a head model that has no albedo basis (FLAME without its texture file)."""

_albedo_of: WeakKeyDictionary[HeadModel, HeadAlbedo] = WeakKeyDictionary()


def albedo_image(head: HeadModel, texture: Tensor) -> np.ndarray:
    """Coefficients [A] → [R, R, 3] uint8 sRGB, row 0 at v = 1; one plain colour where the head has no albedo."""
    if head.data.albedo_mean is None or head.data.albedo_basis is None:
        return np.full((8, 8, 3), PLAIN_SKIN, np.uint8)
    if head not in _albedo_of:
        _albedo_of[head] = HeadAlbedo(head)
    with torch.inference_mode():
        albedo = _albedo_of[head](texture[None].cpu())[0]
    return (albedo.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy().copy()
