"""Batch order: a pure function of seed, epoch and index, so that any step can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """position: of a record in the shards, counted through.  seed: of everything random about this draw alone.
    batch_seed: of what all pictures of one person in this batch have in common."""

    position: int
    seed: int
    batch_seed: int = 0


@dataclass(frozen=True)
class OrderConfig:
    """batch: pictures per batch and process.  pictures_per_person: M of Eqs. 5 and 9; 1: people do not matter.
    window: shards that are mixed with each other (more: better shuffled; fewer: reads stay local on slow disks)."""

    batch: int = 8
    pictures_per_person: int = 1
    window: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.window < 1 or not 1 <= self.pictures_per_person <= self.batch:
            raise ValueError(f"batch, window and pictures_per_person ≤ batch must be positive, got {self}")
        if self.batch % self.pictures_per_person:
            raise ValueError(
                f"a batch of {self.batch} does not hold whole groups of {self.pictures_per_person} pictures"
            )


class BatchOrder:
    """The batches of all epochs.

    Args:
        identities: of all records, shard by shard; "" belongs to nobody.
        shard_sizes: records of each shard, in the same order.
        rank, world: this process of how many; each gets other batches, all the same number.
    """

    def __init__(
        self, identities: Sequence[str], shard_sizes: Sequence[int], config: OrderConfig, rank: int = 0, world: int = 1
    ):
        if sum(shard_sizes) != len(identities):
            raise ValueError(f"{len(identities)} identities for shards of {sum(shard_sizes)} records")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        self.config, self.rank, self.world = config, rank, world
        self._identities = list(identities)
        self._first = np.concatenate([[0], np.cumsum(shard_sizes)]).astype(np.int64)
        self._epoch: tuple[int, np.ndarray] | None = None
        if not len(identities) or self.batches_in(0) == 0:
            raise ValueError(
                f"{len(identities)} records do not fill one batch of {config.batch} for each of {world} processes"
            )

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in an epoch."""
        return len(self._batches(epoch)) // self.world

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, batch in it) of the step-th batch since the beginning."""
        epoch = 0
        while step >= self.batches_in(epoch):
            step -= self.batches_in(epoch)
            epoch += 1
        return epoch, step

    def batch(self, epoch: int, number: int) -> list[Draw]:
        positions = self._batches(epoch)[number * self.world + self.rank]
        rng = np.random.default_rng((self.config.seed, 1, epoch, number * self.world + self.rank))
        seeds = rng.integers(0, 2**62, size=len(positions))
        shared = int(rng.integers(0, 2**62))
        return [Draw(int(p), int(s), shared) for p, s in zip(positions, seeds, strict=True)]

    def from_step(self, step: int) -> Iterator[list[Draw]]:
        """Endless batches from the step-th on."""
        epoch, number = self.locate(step)
        while True:
            for index in range(number, self.batches_in(epoch)):
                yield self.batch(epoch, index)
            epoch, number = epoch + 1, 0

    def _batches(self, epoch: int) -> np.ndarray:
        """[N, batch] positions, all processes together."""
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng((self.config.seed, 0, epoch))
            order = np.concatenate([self._window(shards, rng) for shards in self._windows(rng)])
            count = len(order) // self.config.batch
            self._epoch = (epoch, order[: count * self.config.batch].reshape(count, self.config.batch))
        return self._epoch[1]

    def _windows(self, rng: np.random.Generator) -> list[np.ndarray]:
        shards = rng.permutation(len(self._first) - 1)
        return [shards[i : i + self.config.window] for i in range(0, len(shards), self.config.window)]

    def _window(self, shards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        positions = np.concatenate([np.arange(self._first[s], self._first[s + 1]) for s in np.sort(shards)])
        positions = rng.permutation(positions)
        size = self.config.pictures_per_person
        if size == 1:
            return positions
        return np.concatenate([np.empty(0, np.int64), *_groups(positions, self._identities, size, rng)])


def _groups(positions: np.ndarray, identities: Sequence[str], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Groups of `size` pictures, each of one person as far as there are enough.

    People's last, incomplete groups are filled from people who have too few pictures as well, so that no picture is
    left out and none is shown twice; such a group makes fewer pairs.
    """
    by_person: dict[str, list[int]] = {}
    rest: list[int] = []
    for position in positions.tolist():
        name = identities[position]
        (by_person.setdefault(name, []) if name else rest).append(position)
    whole: list[np.ndarray] = []
    parts: list[list[int]] = []
    for members in by_person.values():
        cut = len(members) // size * size
        whole += [np.array(members[i : i + size], dtype=np.int64) for i in range(0, cut, size)]
        if cut < len(members):
            parts.append(members[cut:])
    # the larger remainders first: two of a person are a pair, singles fill up
    parts.sort(key=len, reverse=True)
    filler = [position for part in parts for position in part] + rest
    whole += [np.array(filler[i : i + size], dtype=np.int64) for i in range(0, len(filler) // size * size, size)]
    return [whole[i] for i in rng.permutation(len(whole))]
