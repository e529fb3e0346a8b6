"""How steady a tracked face is, and whether it comes late (numbers of the video section)."""

from __future__ import annotations

import numpy as np


def jitter(positions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean length of the second differences of positions [T, V, D], in their unit; weights: [V] of the vertices."""
    lengths = np.linalg.norm(np.diff(np.asarray(positions, np.float64), n=2, axis=0), axis=-1)
    return float(np.average(lengths.mean(axis=0), weights=weights))


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
    values = []
    for shift in range(-reach, reach + 1):
        late, early = (p[shift:], t[: len(t) - shift]) if shift >= 0 else (p[:shift], t[-shift:])
        values.append((late * early).sum() / max(np.linalg.norm(late) * np.linalg.norm(early), 1e-12))
    return np.array(values)
