"""Front views and answers as rows of numbers that a linear map can read: oriented gradients, brightness, the answer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.likeness.front import GRID, FrontView
from tokenface.network.components import FaceParameters

ORIENTATIONS = 8
CELLS = (4, 8)
"""Sides of the cells that gradients are summed over, grid squares."""
BRIGHTNESS_CELL = 8
NEIGHBOURHOOD = 5
"""Cells across which gradients are divided by their mean strength, so that light and contrast say little."""
LEAST_STRENGTH = 0.004
FACING = 0.1
"""Cosine below which a surface is seen too flatly to say anything."""


class Describer:
    """Descriptors of one head model's front views. length: D, of a descriptor."""

    def __init__(self, front: FrontView):
        covered = front.covered.float().view(1, 1, GRID, GRID)
        sides = [*((cell, ORIENTATIONS) for cell in CELLS), (BRIGHTNESS_CELL, 3)]
        self._kept = [F.avg_pool2d(covered, cell).gt(0).expand(-1, maps, -1, -1).flatten() for cell, maps in sides]
        self.view_length = sum(int(kept.sum()) for kept in self._kept)
        sizes = front.part.sizes
        self.length = self.view_length + sizes.shape + sizes.expression + 3 + 7 + 3

    def __call__(self, view: Tensor, answer: FaceParameters) -> Tensor:
        """[B, 4, GRID, GRID] of a `FrontView` and the answers that it was made with → [B, D]."""
        maps = [_gradients(view, cell) for cell in CELLS] + [F.avg_pool2d(view[:, :3], BRIGHTNESS_CELL)]
        seen = [values.flatten(1)[:, kept] for values, kept in zip(maps, self._kept, strict=True)]
        turned = answer.camera[:, 1:4].square()
        return torch.cat([*seen, answer.shape, answer.expression, answer.jaw, answer.camera, turned], dim=1)


def _gradients(view: Tensor, cell: int) -> Tensor:
    """[B, ORIENTATIONS, GRID / cell, GRID / cell] histograms of gradient directions (Dalal and Triggs, 2005)."""
    grey = view[:, :3].mean(1, keepdim=True)
    step = grey.new_tensor([-1.0, 0.0, 1.0])
    across = F.conv2d(grey, step.view(1, 1, 1, 3), padding=(0, 1))
    down = F.conv2d(grey, step.view(1, 1, 3, 1), padding=(1, 0))
    strength = (across.square() + down.square() + 1e-8).sqrt() * (view[:, 3:] > FACING)
    angle = torch.atan2(down, across) * (ORIENTATIONS / (2 * math.pi))
    half = ORIENTATIONS / 2
    votes = [F.relu(1 - ((angle - n + half) % ORIENTATIONS - half).abs()) * strength for n in range(ORIENTATIONS)]
    summed = F.avg_pool2d(torch.cat(votes, dim=1), cell)
    total = summed.square().sum(1, keepdim=True)
    return summed / (F.avg_pool2d(total, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2).sqrt() + LEAST_STRENGTH)
