"""sRGB and linear light (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of linear sRGB (ITU-R BT.709)."""


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] → linear light in [0, 1], in the same precision."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def from_linear(linear: np.ndarray) -> np.ndarray:
    """Linear light → sRGB, in the same precision."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-8) ** (1 / 2.4) - 0.055)


_BYTES = to_linear(np.arange(256, dtype=np.float32) / 255)


def bytes_to_linear(srgb: np.ndarray) -> np.ndarray:
    """uint8 sRGB → linear light, by table."""
    return _BYTES[srgb]


def to_bytes(linear: np.ndarray) -> np.ndarray:
    """Linear light → uint8 sRGB; what is outside of [0, 1] is clipped."""
    return (from_linear(np.asarray(linear, np.float32).clip(0, 1)) * 255 + 0.5).astype(np.uint8)
