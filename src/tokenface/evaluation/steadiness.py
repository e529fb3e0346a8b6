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
    p, t = (np.diff(np.asarray(x, np.float64), axis=0).reshape(len(x) - 1, -1) for x in (predicted, truth))
    p, t = p - p.mean(axis=0), t - t.mean(axis=0)

    def correlation(shift: int) -> float:
        late, early = (p[shift:], t[: len(t) - shift]) if shift >= 0 else (p[:shift], t[-shift:])
        return float((late * early).sum() / max(np.linalg.norm(late) * np.linalg.norm(early), 1e-12))

    return max(range(-reach, reach + 1), key=correlation)
