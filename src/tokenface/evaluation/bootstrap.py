"""Figures with 95 % intervals by resampling people: pictures of one person are not independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

ROUNDS = 200
SEED = 0


class Measured(NamedTuple):
    """A figure and the 2.5 and 97.5 % points of it over resampled people."""

    value: float
    low: float
    high: float


Statistic = Callable[[np.ndarray], Mapping[str, float]]
"""Rows [M] of the pictures, people that were drawn twice being there twice → named figures."""


def measured_over_people(
    people: Sequence | np.ndarray, statistic: Statistic, rounds: int = ROUNDS, seed: int = SEED
) -> dict[str, Measured]:
    """The figures of all pictures, and their percentile intervals over people drawn with replacement.

    Args:
        people: [N] who is on each picture.
    """
    names, person = np.unique(np.asarray(people), return_inverse=True)
    rows_of = [np.flatnonzero(person == i) for i in range(len(names))]
    whole = statistic(np.arange(len(person)))
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([rows_of[i] for i in generator.integers(len(names), size=len(names))]))
        for _ in range(rounds if len(names) > 1 else 0)
    ]
    figures = {}
    for name, value in whole.items():
        values = np.array([d[name] for d in drawn if np.isfinite(d[name])])
        low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (float("nan"), float("nan"))
        figures[name] = Measured(float(value), float(low), float(high))
    return figures
