"""Patch embedding: ViT's patch projection, and a residual convolutional stem."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

GROUPS = 8


class PatchStem(nn.Module):
    """One convolution with the stride of its kernel, as in ViT: [B, 3, S, S] → [B, (S/p)², D]."""

    def __init__(self, width: int, patch: int = 16, bias: bool = True):
        super().__init__()
        self.stride = patch
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class ResidualStem(nn.Module):
    """Strided convolutions with residual blocks between them, then a LayerNorm: [B, 3, S, S] → [B, (S/p)², D].

    Small vision transformers trained from nothing on a few hundred thousand images need the locality that
    convolutions bring. `strides[0]` sets most of the price: every later stage works on S / strides[0] maps.

    Args:
        width: D, of the tokens.
        strides, channels, depths: one entry per stage: its stride, its channels, its residual blocks.
        first_kernel: of the first convolution; larger than its stride, so no pixel is seen once only.
    """

    def __init__(
        self,
        width: int,
        strides: tuple[int, ...] = (2, 2, 2, 2),
        channels: tuple[int, ...] = (32, 64, 128, 192),
        depths: tuple[int, ...] = (0, 1, 1, 1),
        first_kernel: int = 3,
    ):
        super().__init__()
        self.stride = prod(strides)
        layers: list[nn.Module] = []
        previous, kernel = 3, first_kernel
        for stride, out, depth in zip(strides, channels, depths, strict=True):
            layers += [_convolution(previous, out, kernel, stride), nn.ReLU()]
            layers += [ResidualBlock(out) for _ in range(depth)]
            previous, kernel = out, 3
        if previous != width:
            layers.append(nn.Conv2d(previous, width, 1))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        # channels-last is what CPU and tensor-core convolutions want, and makes the transpose below free
        features = self.layers(images.contiguous(memory_format=torch.channels_last))
        return self.norm(features.flatten(2).transpose(1, 2))


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions around a shortcut (He et al., 2016); starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = _convolution(channels, channels, 3, 1)
        self.second = _convolution(channels, channels, 3, 1)
        norm = self.second[1]
        assert isinstance(norm, nn.GroupNorm)
        nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    # GroupNorm: a picture's prediction never depends on its batch; an average of weights has no statistics to mend.
    # The bias before it keeps the picture's brightness, which the norm alone would erase and the light needs.
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2), nn.GroupNorm(GROUPS, outputs))
