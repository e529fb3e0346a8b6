"""Colour spaces: sRGB, linear light (IEC 61966-2-1) and CIELAB (D65, 2°), with the typology angle of skin."""

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


_WHITE = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_RGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB (D65, 2°) [..., 3] → sRGB in [0, 1], out-of-gamut values clipped."""
    lab = np.asarray(lab, dtype=np.float32)
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE.astype(np.float32)
    linear = np.clip(xyz @ _XYZ_TO_RGB.T.astype(np.float32), 0, 1)
    return from_linear(linear)


def srgb_to_lab(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] [..., 3] → CIELAB (D65)."""
    xyz = to_linear(np.asarray(srgb, dtype=np.float64)) @ np.linalg.inv(_XYZ_TO_RGB).T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def typology_angle(lab: np.ndarray) -> np.ndarray:
    """Individual typology angle in degrees: > 55 very fair, 28–41 intermediate, < −30 dark."""
    return np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2]))
