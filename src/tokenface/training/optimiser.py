"""Muon for hidden matrices and AdamW for all else as one optimiser, and the weights' moving average (EMA).

Muon (Jordan et al., 2024) moves a weight matrix along the nearest orthogonal matrix of its momentum, so that rare
directions of the gradient learn as fast as common ones. The orthogonal factor comes from five Newton–Schulz rounds,
matrix products alone. Steps are scaled to AdamW's usual size (Liu et al., 2025), so one learning rate serves both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tokenface.training.config import OptimiserConfig
from tokenface.training.distribution import spread_like, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of x → a x + b x³ + c x⁵ that lift small singular values fastest (Jordan et al., 2024)."""
ADAMW_STEP = 0.2
"""Root mean square of a typical AdamW step, in learning rates (Liu et al., 2025)."""


def create_optimiser(groups: list[dict], config: OptimiserConfig, half: bool = False) -> Optimizer:
    """The configured optimiser of `TokenFace.parameter_groups`; half: as for `MuonAdamW`."""
    if config.name == "muon":
        return MuonAdamW(groups, config.learning_rate, config.betas, half=half)
    return torch.optim.AdamW(groups, config.learning_rate, config.betas)


class MuonAdamW(Optimizer):
    """Parameter groups with `muon=True` hold matrices or kernels [out, in, …]; the others follow AdamW.

    half: orthogonal factors in bfloat16 on a CPU, too, which is twice as fast where the processor knows it and slower
    elsewhere; on a GPU always.
    """

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        momentum: float = 0.95,
        eps: float = 1e-8,
        half: bool = False,
    ):
        self.half = half
        super().__init__(groups, {"lr": lr, "betas": betas, "momentum": momentum, "eps": eps, "muon": False})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        """One step; `closure` is not supported (and never called)."""
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, self.state[parameter], group)

    def _muon(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        ahead = whole(gradient.lerp(momentum, group["momentum"])).flatten(1)  # Nesterov's look ahead
        size = ADAMW_STEP * math.sqrt(max(ahead.shape))
        direction = orthogonalised(ahead, half=self.half).view(parameter.shape)
        parameter.add_(spread_like(direction, parameter), alpha=-group["lr"] * size)

    def _adamw(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        mean, square = state["mean"].lerp_(gradient, 1 - first), state["square"]
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (square / (1 - second**step)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, spread, value=-group["lr"] / (1 - first**step))


def orthogonalised(matrix: Tensor, rounds: int = 5, half: bool = False) -> Tensor:
    """[m, n] → nearly U Vᵀ of its singular value decomposition (singular values within about 0.7–1.2)."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.to(torch.bfloat16) if half or matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


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
