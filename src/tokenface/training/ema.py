"""Exponential moving average of the weights: what is validated and shipped."""

from __future__ import annotations

import torch
from torch import nn


class WeightAverage:
    """Average of a model's floating-point state; the decay warms up so that early steps are forgotten soon."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.values[key].lerp_(value, 1 - decay)
            else:
                self.values[key].copy_(value)
