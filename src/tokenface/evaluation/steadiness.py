"""How steady a tracked face is, and whether it comes late (numbers of the video section)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def second_differences(
    positions: np.ndarray, present: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """[T, V, D] positions → [T − 2] mean length of x(t−1) − 2 x(t) + x(t+1); NaN where one of the three is missing.

    Args:
        present: [T] bool, frames with a prediction; None: all.  weights: [V] of the points.
    """
    lengths = np.linalg.norm(np.diff(np.asarray(positions, np.float64), n=2, axis=0), axis=-1)
    lengths = np.average(lengths, axis=-1, weights=weights)
    if present is not None:
        lengths = np.where(present[:-2] & present[1:-1] & present[2:], lengths, np.nan)
    return lengths


def jitter(positions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean length of the second differences of positions [T, V, D], in their unit; weights: [V] of the vertices."""
    return float(second_differences(positions, weights=weights).mean())


def lag(predicted: np.ndarray, truth: np.ndarray, reach: int = 4) -> float:
    """`lag_of_clips` of one clip: positions [T, V, D]."""
    return lag_of_clips([(predicted, truth)], reach)


def lag_of_clips(pairs: Sequence[tuple[np.ndarray, np.ndarray]], reach: int = 4) -> float:
    """Frames by which predicted motions follow the true ones, over several clips: where the correlation of all their
    velocities peaks, between frames by a parabola. Clips count by how much moves in them; every shift is compared on
    the same frames of the truth.

    Args:
        pairs: predicted and true positions of each clip, [T, V, D], T > 2·reach + 2.  reach: largest lag, either way.
    """
    shifts = range(-reach, reach + 1)
    products, power = np.zeros(len(shifts)), np.zeros(len(shifts))
    for predicted, truth in pairs:
        p, t = (np.diff(np.asarray(x, np.float64), axis=0).reshape(len(x) - 1, -1) for x in (predicted, truth))
        core = t[reach : len(t) - reach]
        for place, shift in enumerate(shifts):
            moved = p[reach + shift : len(p) - reach + shift]
            products[place] += (moved * core).sum()
            power[place] += (moved * moved).sum()
    return peak(products / np.sqrt(power.clip(1e-30))) - reach


def peak(scores: np.ndarray) -> float:
    """Place of the largest score, between places by a parabola through it and its neighbours."""
    best = int(scores.argmax())
    if not 0 < best < len(scores) - 1:
        return float(best)
    left, middle, right = scores[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(best + (0.5 * (left - right) / bend if bend < 0 else 0.0))


def agreement(a: np.ndarray, b: np.ndarray, shift: int) -> float:
    """Cosine of the angle between motions [T, N] and [T, N], the first taken to come `shift` frames later."""
    late, early = (a[shift:], b[: len(b) - shift]) if shift >= 0 else (a[:shift], b[-shift:])
    scale = np.linalg.norm(late) * np.linalg.norm(early)
    return float((late * early).sum() / scale) if scale > 0 else 0.0
