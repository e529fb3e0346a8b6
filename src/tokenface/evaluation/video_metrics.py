"""A tracked clip in figures: error of the picture per frame (Fig. 6), jitter, and lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenface.evaluation.steadiness import agreement, peak, second_differences


@dataclass(frozen=True)
class Jitter:
    """Mean length of second differences.  vertices: mm per frame².  landmarks: photo pixels per frame²."""

    vertices: float
    landmarks: float


def photometric_error(rendered: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference over a mask, in grey levels of 255; NaN where the mask is empty.

    Args:
        rendered, frame: [H, W, 3] in [0, 1].  mask: [H, W], weights in [0, 1] (Fig. 6: the skin of the face).
    """
    total = float(mask.sum())
    if total <= 0:
        return float("nan")
    return 255 * float((np.abs(rendered - frame).mean(-1) * mask).sum() / total)


def jitter(vertices: np.ndarray, landmarks: np.ndarray, present: np.ndarray | None = None) -> Jitter:
    """Args: vertices: [T, V, 3] metres, turned as on the frame.  landmarks: [T, K, 2] photo pixels."""
    mm, pixels = second_differences(vertices, present) * 1000, second_differences(landmarks, present)
    return Jitter(
        float(np.nanmean(mm)) if np.isfinite(mm).any() else float("nan"),
        float(np.nanmean(pixels)) if np.isfinite(pixels).any() else float("nan"),
    )


def lag(signal: np.ndarray, reference: np.ndarray, most: int = 10) -> float:
    """By how many frames a signal comes after a reference: the shift at which their motions agree best.

    Whole shifts are compared by the correlation of the first differences; a parabola through the best and its
    neighbours gives the part between frames. 0 for motion that is too little to tell.

    Args:
        signal, reference: [T, ...] the same quantity, for example landmarks.  most: frames either way.
    """
    a = np.diff(signal.reshape(len(signal), -1), axis=0)
    b = np.diff(reference.reshape(len(reference), -1), axis=0)
    most = min(most, len(a) - 3)
    if most < 1 or np.abs(a).max() < 1e-9 or np.abs(b).max() < 1e-9:
        return 0.0
    shifts = np.arange(-most, most + 1)
    scores = np.array([agreement(a, b, int(shift)) for shift in shifts])
    return peak(scores) - most


def error_curve(errors: Sequence[float]) -> dict[str, float]:
    """Summary of photometric errors per frame: mean, median, 95th percentile, and the share of frames with one."""
    values = np.asarray(errors, dtype=np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        return {"mean": float("nan"), "median": float("nan"), "p95": float("nan"), "frames": 0.0}
    return {
        "mean": float(known.mean()),
        "median": float(np.median(known)),
        "p95": float(np.percentile(known, 95)),
        "frames": len(known) / len(values),
    }
