"""Seeded random draws of one batch, shared by every sampler of the generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tokenface.core.device import constant, placed


class Draw:
    """Named distributions over a generator; two runs with one seed on one machine draw the same numbers."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator
        self.device = generator.device
        self.host = generator if self.device.type == "cpu" else _companion(generator)

    @staticmethod
    def seeded(seed: int | torch.Generator, device: torch.device | str) -> Draw:
        """A generator as it is (its device wins), or a fresh one on `device` for a seed."""
        if isinstance(seed, torch.Generator):
            return Draw(seed)
        return Draw(torch.Generator(device=device).manual_seed(seed))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device) * std

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return torch.exp(self.uniform(*shape, low=math.log(low), high=math.log(high)))

    def chance(self, *shape: int, p: float | Tensor) -> Tensor:
        """Bool tensor, true with probability p (a number or a tensor that broadcasts to the shape)."""
        return torch.rand(*shape, generator=self.generator, device=self.device) < p

    def index(self, *shape: int, count: int) -> Tensor:
        return torch.randint(count, shape, generator=self.generator, device=self.device)

    def decisions(self, count: int) -> list[float]:
        """Uniform numbers that decide what is computed at all; drawn on the CPU, so that nothing waits for a GPU."""
        return torch.rand(count, generator=self.host, device="cpu").tolist()

    def decided_index(self, count: int) -> int:
        """`index` of one number, as `decisions`."""
        return int(torch.randint(count, (1,), generator=self.host, device="cpu"))

    def pick(self, batch: int, weights: Sequence[float] | Tensor) -> Tensor:
        """[batch] indices with the given weights: [K] for all rows or [batch, K] row by row."""
        if isinstance(weights, Tensor):
            w = placed(weights, self.device).float()
        else:
            w = constant(weights, self.device, torch.float32)
        cumulative = (w / w.sum(-1, keepdim=True)).cumsum(-1)
        return (self.uniform(batch, 1) > cumulative[..., :-1].expand(batch, -1)).sum(-1)

    def palette(self, batch: int, colours: Tensor, weights: Sequence[float] | Tensor, jitter: float = 0.04) -> Tensor:
        """[batch, 3] sRGB colours picked from [K, 3], each blended with another one and jittered."""
        colours = placed(colours, self.device)
        first, second = colours[self.pick(batch, weights)], colours[self.pick(batch, weights)]
        mixed = torch.lerp(first, second, self.uniform(batch, 1) ** 2 * 0.6)
        return (mixed + self.normal(batch, 3, std=jitter) + self.normal(batch, 1, std=jitter)).clamp(0.01, 1)


def _companion(generator: torch.Generator) -> torch.Generator:
    """A generator on the CPU that goes on where the device's one stands."""
    try:
        offset = generator.get_offset()
    except RuntimeError:  # only CUDA's say where they stand
        offset = 0
    return torch.Generator().manual_seed((generator.initial_seed() + offset) % (1 << 63))
