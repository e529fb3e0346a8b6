"""Several looks at one face: the network's opinions of a head's shape from other crops and in the mirror, averaged.

What differs between them is the network's noise, not the person.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tokenface.images.crop import Crop, extract

if TYPE_CHECKING:
    from tokenface.inference.reconstruct import Reconstructor

SCALES = (1.0, 0.92, 1.08, 1.2)
"""Sides of the crops over the network's own; each is shown as it is and mirrored."""
SYMMETRIC = 0.01
"""Largest share of a mirrored shape that a symmetric basis may fail to express."""


class Looks:
    """A network asked several times."""

    def __init__(self, model: Reconstructor):
        self.model = model

    def __call__(self, photo: np.ndarray, crop: Crop, count: int) -> Tensor:
        """Args: photo: [H, W, 3] uint8.  count: looks, at most twice `SCALES`.  Returns: [S] mean shape."""
        mirrored = 0 if self.mirror is None else count // 2
        straight = min(count - mirrored, len(SCALES))
        crops = extract(photo, [crop.scaled(scale) for scale in SCALES[:straight]], self.model.crop_size)
        pictures = torch.cat([crops, crops[:mirrored].flip(-1)])
        shapes = self.model.predict(pictures).shape.clone()
        if self.mirror is not None:
            shapes[straight:] = shapes[straight:] @ self.mirror
        return shapes.mean(0)

    @cached_property
    def mirror(self) -> Tensor | None:
        """[S, S]: coefficients of a head to those of its mirror image, `mirrored = shape @ mirror`; None where the head
        model's shapes have no mirror images."""
        head = self.model.head
        basis = head.data.shape_basis.astype(np.float64)
        image = (basis[:, head.data.mirror] * [-1, 1, 1]).reshape(len(basis), -1)
        flat = basis.reshape(len(basis), -1)
        matrix = np.linalg.lstsq(flat @ flat.T, flat @ image.T, rcond=1e-9)[0].T
        missed = np.linalg.norm(matrix @ flat - image) / max(float(np.linalg.norm(flat)), 1e-12)
        return torch.from_numpy(matrix).float() if missed < SYMMETRIC else None
