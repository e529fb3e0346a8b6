"""Statistics of evaluations: summaries that papers print, bootstrap intervals over people, reliability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

CURVE_END = 8.0
"""Millimetres up to which papers draw the cumulative curve."""


@dataclass(frozen=True)
class Figures:
    """Millimetres.

    median, mean, std: over all distances of all images together, as the official code has it: dense scans weigh more.
    image_mean: the mean over images of each image's mean, every image alike; low, high: its 95 % interval by
    resampling people (images of one person are not independent).
    """

    images: int
    missing: int
    median: float
    mean: float
    std: float
    image_mean: float
    low: float
    high: float

    @property
    def coverage(self) -> float:
        total = self.images + self.missing
        return self.images / total if total else 0.0


def figures(distances: Sequence[np.ndarray], people: Sequence[str], missing: int = 0) -> Figures:
    """Args: distances: [P_i] millimetres of every image.  people: who each image shows.  missing: images without."""
    if not distances:
        nothing = float("nan")
        return Figures(0, missing, nothing, nothing, nothing, nothing, nothing, nothing)
    stacked = np.concatenate(distances)
    means = np.array([float(np.mean(d)) for d in distances])
    low, high = people_interval(means, people)
    return Figures(
        len(distances),
        missing,
        float(np.median(stacked)),
        float(stacked.mean()),
        float(stacked.std()),
        float(means.mean()),
        low,
        high,
    )


def people_interval(
    values: np.ndarray, people: Sequence[str], rounds: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean value, people drawn with replacement; NaN for a single person."""
    names, index = np.unique(np.asarray(people), return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    total, count = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def cumulative_curve(distances: Iterable[np.ndarray], steps: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds [steps + 1] from 0 to CURVE_END mm, and the per cent of all distances that are not above each."""
    edges = np.linspace(0, CURVE_END, steps + 1)
    stacked = np.sort(np.concatenate(list(distances)))
    return edges, 100 * np.searchsorted(stacked, edges, side="right") / len(stacked)


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


RIGHT = 0.03
"""A prediction is right when the mean error of its 68 points is below this share of √(area of their box): about what
two people who annotate a face differ by."""
BINS = 10


def expected_calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between stated and true share over `bins` equal intervals of [0, 1], weighted by their counts [Naeini
    and others 2015]."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(probability[place == k].sum() - right[place == k].sum()) for k in range(bins)]
    return float(sum(gaps) / len(probability))


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    """Probability that one of the good scores is above one of the bad ones; NaN without either."""
    if not len(good) or not len(bad):
        return float("nan")
    ranks = rankdata(np.concatenate([good, bad]))[: len(good)].sum()
    return float((ranks - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad)))
