"""How steady a tracked face is, and whether it comes late (numbers of the video section)."""

from __future__ import annotations

import numpy as np


def second_differences(
    positions: np.ndarray, present: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """[T, V, D] positions → [T − 2] mean length of x(t−1) − 2 x(t) + x(t+1); NaN where one of the three is missing.

    Args:
        present: [T] bool, frames with an answer; None: all.  weights: [V] of the points.
    """
    lengths = np.linalg.norm(np.diff(np.asarray(positions, np.float64), n=2, axis=0), axis=-1)
    lengths = np.average(lengths, axis=-1, weights=weights)
    if present is not None:
        lengths = np.where(present[:-2] & present[1:-1] & present[2:], lengths, np.nan)
    return lengths


def jitter(positions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean length of the second differences of positions [T, V, D], in their unit; weights: [V] of the vertices."""
    return float(second_differences(positions, weights=weights).mean())


def lag(predicted: np.ndarray, truth: np.ndarray, reach: int = 4) -> int:
    """Frames by which the motion of `predicted` follows that of `truth`: where their velocities' correlation peaks.

    Args:
        predicted, truth: [T, V, D].  reach: largest lag that is tried, either way.
    """
    return int(np.argmax(motion_correlation(predicted, truth, reach))) - reach


def motion_correlation(predicted: np.ndarray, truth: np.ndarray, reach: int = 4) -> np.ndarray:
    """[2·reach + 1] correlation of velocities at lags −reach … reach. One short clip holds few independent motions:
    average over clips before looking for the peak."""
    p, t = (np.diff(np.asarray(x, np.float64), axis=0).reshape(len(x) - 1, -1) for x in (predicted, truth))
    p, t = p - p.mean(axis=0), t - t.mean(axis=0)
    return np.array([agreement(p, t, shift) for shift in range(-reach, reach + 1)])


def agreement(a: np.ndarray, b: np.ndarray, shift: int) -> float:
    """Cosine of the angle between motions [T, N] and [T, N], the first taken to come `shift` frames later."""
    late, early = (a[shift:], b[: len(b) - shift]) if shift >= 0 else (a[:shift], b[-shift:])
    scale = np.linalg.norm(late) * np.linalg.norm(early)
    return float((late * early).sum() / scale) if scale > 0 else 0.0
