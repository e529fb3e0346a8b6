"""Colour of human skin in CIELAB (D65) and its conversion to sRGB.

Skin reflectance lies close to one curve from fair to dark, the melanin axis; blood moves a point off it (redder and
darker). The curve's knots follow group means that published spectrophotometry of facial skin agrees on: very fair
skin near L* 74, a* 9, b* 14; fair and medium skin L* 68–56, a* 11–13, b* 15–20; brown skin L* 48–40, a* 12, b* 17–19;
very dark skin L* 30, a* 9, b* 10. The individual typology angle atan((L* − 50)/b*) then runs from about 60° to −65°.
The knots' a* is two to three units above those means, because cameras render skin redder than instruments measure it.
"""

from __future__ import annotations

import numpy as np

_LIGHTNESS = np.array([14.0, 22.0, 28.0, 34.0, 41.0, 48.0, 55.0, 62.0, 68.0, 74.0, 82.0])
_REDNESS = np.array([5.0, 8.2, 10.6, 12.6, 14.4, 15.4, 15.4, 14.4, 13.0, 11.0, 8.5])
_YELLOWNESS = np.array([3.5, 6.5, 9.4, 12.6, 16.2, 18.6, 19.2, 17.8, 15.9, 13.8, 11.0])

BLOOD = np.array([-0.45, 1.0, 0.12])
"""CIELAB step of one unit of extra haemoglobin: a* rises by one, L* falls."""


def skin_colour(lightness: np.ndarray) -> np.ndarray:
    """Points of the melanin axis: L* [...] → CIELAB [..., 3]."""
    lightness = np.asarray(lightness, dtype=np.float32)
    return np.stack(
        [
            lightness,
            np.interp(lightness, _LIGHTNESS, _REDNESS),
            np.interp(lightness, _LIGHTNESS, _YELLOWNESS),
        ],
        axis=-1,
    ).astype(np.float32)


def typology_angle(lab: np.ndarray) -> np.ndarray:
    """Individual typology angle in degrees: > 55 very fair, 28–41 intermediate, < −30 dark."""
    return np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2]))


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
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-8) ** (1 / 2.4) - 0.055)


def srgb_to_lab(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] [..., 3] → CIELAB (D65)."""
    srgb = np.asarray(srgb, dtype=np.float64)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.linalg.inv(_XYZ_TO_RGB).T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
