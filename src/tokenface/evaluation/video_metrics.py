"""Metrics of a tracked clip: image error per frame (Fig. 6), jitter, lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def track_jitter(vertices: np.ndarray, landmarks: np.ndarray, present: np.ndarray | None = None) -> Jitter:
    """Args: vertices: [T, V, 3] metres, turned as on the frame.  landmarks: [T, K, 2] photo pixels."""
    mm, pixels = second_differences(vertices, present) * 1000, second_differences(landmarks, present)
    return Jitter(
        float(np.nanmean(mm)) if np.isfinite(mm).any() else float("nan"),
        float(np.nanmean(pixels)) if np.isfinite(pixels).any() else float("nan"),
    )


def track_lag(signal: np.ndarray, reference: np.ndarray, most: int = 10) -> float:
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
