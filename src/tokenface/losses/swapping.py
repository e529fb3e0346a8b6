"""Who exchanges shapes with whom: pairs of pictures of one person, for the consistency losses (Eqs. 5 and 9)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tokenface.parameters import FaceParameters


class SwapPairs(NamedTuple):
    """giver: [P] pictures whose shape is taken (a in the paper).  taker: [P] pictures that wear it (b)."""

    giver: Tensor
    taker: Tensor

    def __len__(self) -> int:
        return self.giver.shape[0]

    def to(self, device: torch.device | str) -> SwapPairs:
        """On a device; the CPU does not wait for it."""
        return SwapPairs(self.giver.to(device, non_blocking=True), self.taker.to(device, non_blocking=True))

    def swapped(self, parameters: FaceParameters) -> FaceParameters:
        """The takers' parameters with the givers' shapes, `(β_a, ψ_b, θ_b, C_b, α_b, ι_b)`: P faces."""
        return parameters[self.taker].replace(shape=parameters.shape[self.giver])


def swap_pairs(identity: Tensor, partners: int | None = None) -> SwapPairs:
    """Ordered pairs of different pictures of the same person.

    Args:
        identity: [B] integer labels, equal for pictures of one person; a person with one picture makes no pair.
        partners: at most so many givers per taker, the next ones in the order of the batch (cyclic); None: all.
    Returns:
        SwapPairs on the device of `identity`; the M pictures of a person make M·min(M − 1, partners) pairs.
    """
    same = identity[:, None] == identity[None, :]
    same.fill_diagonal_(False)
    taker, giver = same.nonzero(as_tuple=True)
    if partners is not None:
        # steps forward from the taker to the giver among the pictures of that person
        place = same.tril().sum(1)
        count = same.sum(1) + 1
        step = (place[giver] - place[taker]) % count[taker]
        near = step <= partners
        taker, giver = taker[near], giver[near]
    return SwapPairs(giver, taker)


def mean_over_pairs(losses: Tensor, like: Tensor) -> Tensor:
    """Mean of [P] losses; without pairs an exact 0 that still belongs to the graph of `like`."""
    return losses.mean() if losses.numel() else (like * 0.0).sum()
