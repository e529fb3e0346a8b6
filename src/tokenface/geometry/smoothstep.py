"""The smooth step of computer graphics."""

from __future__ import annotations

import numpy as np


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at low, 1 at high, smooth between; low may be the larger."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
