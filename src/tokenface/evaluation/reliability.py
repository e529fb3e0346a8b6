"""Reliability of stated probabilities: expected calibration error and area under the ROC curve."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

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
