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
