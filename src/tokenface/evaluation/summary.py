"""Distances of many images into the figures that papers print, with the coverage beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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
