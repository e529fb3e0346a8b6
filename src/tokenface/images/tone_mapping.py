"""Tone mapping of HLG and PQ (HDR) to sRGB.

ITU-R BT.2100 gives the two curves, BT.2408 the light of a white page (203 cd/m², 0.75 of HLG's signal), BT.2087 the way
from BT.2020's primaries to BT.709's. Light below half of that white stays as it is (skin lies there); what is brighter
is rolled off, so that the brightest highlight becomes white.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import cv2
import numpy as np

from tokenface.images.srgb import from_linear

Curve = Literal["hlg", "pq"]

WHITE = 203.0
"""cd/m² of a white page."""
PEAK = 1000.0
"""cd/m² of the brightest highlight that keeps detail."""
KNEE = 0.5
"""Of white: darker light is not changed."""
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
P3_TO_BT709 = np.array(
    [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
)
LEVELS = 4096


def tone_mapped(signal: np.ndarray, curve: Curve, to_bt709: np.ndarray = BT2020_TO_BT709) -> np.ndarray:
    """HDR signal to sRGB.

    Args:
        signal: [H, W, 3] uint16, full range, of primaries that `to_bt709` [3, 3] turns into BT.709's.
    Returns:
        [H, W, 3] uint8 sRGB.
    """
    light = _curve(curve)[signal]
    if curve == "hlg":  # BT.2100's system gamma: the display makes bright places brighter still
        light *= (np.maximum(light @ BT2020_LUMINANCE, 1e-6) ** np.float32(0.2))[..., None]
        light *= np.float32(PEAK / WHITE)
    light = np.maximum(cv2.transform(light, to_bt709), 0)
    brightest = light.max(axis=-1, keepdims=True)
    light *= np.where(brightest > KNEE, rolled_off(brightest) / np.maximum(brightest, KNEE), np.float32(1))
    return _encoding()[np.rint(np.clip(light, 0, 1) * (LEVELS - 1)).astype(np.uint16)]


def rolled_off(light: np.ndarray) -> np.ndarray:
    """Light above the knee compressed so that `PEAK` becomes 1 (Reinhard et al. 2002, Eq. 4, continued smoothly)."""
    span, top = 1 - KNEE, (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = np.clip(light - KNEE, 0, PEAK / WHITE - KNEE) / span
    return (KNEE + span * over * (1 + over / top**2) / (1 + over)).astype(np.float32)


@cache
def _curve(curve: Curve) -> np.ndarray:
    """[65536] float32: HLG's scene light in [0, 1], or PQ's display light in multiples of white."""
    signal = np.arange(65536) / 65535
    if curve == "pq":
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        return (10_000 / WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _encoding() -> np.ndarray:
    """[LEVELS] uint8: linear light to sRGB's levels."""
    return np.rint(255 * from_linear(np.linspace(0, 1, LEVELS))).astype(np.uint8)
