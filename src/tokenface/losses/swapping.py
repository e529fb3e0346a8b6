"""Source–target pairs of one person's pictures, whose shapes the consistency losses (Eqs. 5 and 9) swap."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tokenface.moved import warn_of_former
from tokenface.parameters import FaceParameters


class SwapPairs(NamedTuple):
    """source: [P] images that give the shape (a in the paper).  target: [P] images rendered with it (b)."""

    source: Tensor
    target: Tensor

    @property
    def giver(self) -> Tensor:
        """Former name of `source`."""
        warn_of_former("giver", "source")
        return self.source

    @property
    def taker(self) -> Tensor:
        """Former name of `target`."""
        warn_of_former("taker", "target")
        return self.target

    def __len__(self) -> int:
        return self.source.shape[0]

    def to(self, device: torch.device | str) -> SwapPairs:
        """On a device; the CPU does not wait for it."""
        return SwapPairs(self.source.to(device, non_blocking=True), self.target.to(device, non_blocking=True))

    def swapped(self, parameters: FaceParameters) -> FaceParameters:
        """The targets' parameters with the sources' shapes, `(β_a, ψ_b, θ_b, C_b, α_b, ι_b)`: P faces."""
        return parameters[self.target].replace(shape=parameters.shape[self.source])


def swap_pairs(identity: Tensor, partners: int | None = None) -> SwapPairs:
    """Ordered pairs of different pictures of the same person.

    Args:
        identity: [B] integer labels, equal for pictures of one person; a person with one picture makes no pair.
        partners: at most so many sources per target, the next ones in the order of the batch (cyclic); None: all.
    Returns:
        SwapPairs on the device of `identity`; the M pictures of a person make M·min(M − 1, partners) pairs.
    """
    same = identity[:, None] == identity[None, :]
    same.fill_diagonal_(False)
    target, source = same.nonzero(as_tuple=True)
    if partners is not None:
        # steps forward from the target to the source among the pictures of that person
        place = same.tril().sum(1)
        count = same.sum(1) + 1
        step = (place[source] - place[target]) % count[target]
        near = step <= partners
        target, source = target[near], source[near]
    return SwapPairs(source, target)


def mean_over_pairs(losses: Tensor, like: Tensor) -> Tensor:
    """Mean of [P] losses; without pairs a zero that is differentiable with respect to `like`."""
    return losses.mean() if losses.numel() else (like * 0.0).sum()
