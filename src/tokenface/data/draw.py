"""Random numbers of one batch: every sampler of the generator draws from one seeded `torch.Generator`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Draw:
    """Named distributions over a generator; two runs with one seed on one machine draw the same numbers."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator
        self.device = generator.device

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

    def pick(self, batch: int, weights: Sequence[float] | Tensor) -> Tensor:
        """[batch] indices with the given weights: [K] for all rows or [batch, K] row by row."""
        w = torch.as_tensor(weights, dtype=torch.float32, device=self.device)
        cumulative = (w / w.sum(-1, keepdim=True)).cumsum(-1)
        return (self.uniform(batch, 1) > cumulative[..., :-1].expand(batch, -1)).sum(-1)

    def palette(self, batch: int, colours: Tensor, weights: Sequence[float] | Tensor, jitter: float = 0.04) -> Tensor:
        """[batch, 3] sRGB colours picked from [K, 3], each blended with another one and jittered."""
        colours = colours.to(self.device)
        first, second = colours[self.pick(batch, weights)], colours[self.pick(batch, weights)]
        mixed = torch.lerp(first, second, self.uniform(batch, 1) ** 2 * 0.6)
        return (mixed + self.normal(batch, 3, std=jitter) + self.normal(batch, 1, std=jitter)).clamp(0.01, 1)
