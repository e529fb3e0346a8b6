"""Auxiliary dense head: canonical surface coordinates per patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POINT_SCALE = 0.1
"""Metres per unit of the layer's output: heads are about that large."""


class SurfaceMap(nn.Module):
    """One linear layer from patch tokens to a map of surface points, `cells` × `cells` for every patch.

    A dense task for the patches, learned beside the component tokens: who knows which point of the head lies where has
    found the face, and its tokens only have to collect it. Pictures are not reconstructed from it.
    """

    def __init__(self, width: int, cells: int):
        super().__init__()
        self.cells = cells
        self.fc = nn.Linear(width, 4 * cells * cells)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B, G², D] of a G × G grid → [B, 4, G·cells, G·cells]: x, y, z in metres of head space on the mean
        head, and the logit of "the head is what is seen here"."""
        with torch.autocast(patches.device.type, enabled=False):
            values = self.fc(patches.float()).transpose(1, 2)
        grid = round(values.shape[-1] ** 0.5)
        fine = nn.functional.pixel_shuffle(values.unflatten(-1, (grid, grid)), self.cells)
        return torch.cat([fine[:, :3] * POINT_SCALE, fine[:, 3:]], dim=1)
