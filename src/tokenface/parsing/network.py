"""Network of face parsing: a small U-Net from an upright picture of a head to a region for every pixel."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.parsing.regions import REGIONS

WIDTHS = (16, 32, 48, 64, 80)
"""Channels at a half, a quarter, … of the picture's side."""


class ParsingNetwork(nn.Module):
    """[B, 3, S, S] sRGB in [0, 1] → [B, REGIONS, S / 2, S / 2] logits; S a multiple of 32; as a graph: SIZE."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, WIDTHS[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(narrow, wide, stride=2), _Residual(wide), _Residual(wide))
            for narrow, wide in pairwise(WIDTHS)
        )
        self.up = nn.ModuleList(
            _Joined(wide, narrow) for narrow, wide in zip(WIDTHS[-2::-1], WIDTHS[:0:-1], strict=True)
        )
        self.out = nn.Conv2d(WIDTHS[0], len(REGIONS), 1)

    def forward(self, pictures: Tensor) -> Tensor:
        here = self.stem(pictures * 4 - 2)
        passed = [here]
        for step in self.down:
            here = step(here)
            passed.append(here)
        passed.pop()
        for step in self.up:
            here = step(here, passed.pop())
        return self.out(here)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels, last=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Joined(nn.Module):
    """What was seen from further away, enlarged, beside what was seen here."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(wide, narrow, 1)
        self.join = _convolution(2 * narrow, narrow)

    def forward(self, far: Tensor, near: Tensor) -> Tensor:
        enlarged = F.interpolate(self.lateral(far), scale_factor=2, mode="bilinear", align_corners=False)
        return self.join(torch.cat([enlarged, near], dim=1))


def _convolution(narrow: int, wide: int, stride: int = 1, last: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(narrow, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide)]
    return nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.ReLU(inplace=True))
