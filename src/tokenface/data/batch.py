"""What a training step gets: pictures with every truth that a generator knows."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tokenface.parameters import FaceParameters


@dataclass(frozen=True)
class FaceBatch:
    """B synthetic pictures. Points are crop NDC (x right, y down, −1 and +1 are the crop's edges).

    image: [B, 3, S, S] sRGB in [0, 1].  parameters: every component.  vertices: [B, V, 3] posed, head space, metres.
    neutral: [B, V, 3] without expression and jaw.  landmarks68: [B, 68, 2], visible68: [B, 68] bool (inside the crop,
    not behind the head itself, not behind hair, glasses frames, hats or hands); likewise the 468 mesh points, zeros
    and never visible on heads without them.  mask: [B, 1, S, S] face skin that nothing opaque covers, in [0, 1].
    identity: [B] int64, equal for pictures of one person of this batch.
    """

    image: Tensor
    parameters: FaceParameters
    vertices: Tensor
    neutral: Tensor
    landmarks68: Tensor
    visible68: Tensor
    landmarks468: Tensor
    visible468: Tensor
    mask: Tensor
    identity: Tensor

    def __len__(self) -> int:
        return self.image.shape[0]

    def __getitem__(self, index) -> FaceBatch:
        return FaceBatch(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> FaceBatch:
        return FaceBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
