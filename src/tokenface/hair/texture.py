"""Texture of hair: strands of a cap and locks of cards, in the colour of a photo's hair."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from tokenface.formats.rig import PartMaterial
from tokenface.images.srgb import bytes_to_linear, to_bytes
from tokenface.parsing.parser import Regions
from tokenface.parsing.regions import HAIR

SIZE = 512
CAP_SHARE = 0.5
"""Of the picture's width: strands of the cap; the rest are locks."""
LOCKS = 4
ROUGHNESS = 0.65
SURE = 0.8
"""Share of hair from which a pixel's colour counts."""
CONTRAST = (0.12, 0.45)
"""Of strands: standard deviation of the logarithm of their light."""
LIT = (0.5, 0.95)
"""Quantiles of the hair's pixels, by their light, between which its colour is taken: neither shadows nor highlights."""
ENDS = 0.30
"""Share of the picture's height, from below, over which the cap's strands end one by one."""


def hair_material(photo: np.ndarray, regions: Regions, seed: int = 0) -> PartMaterial:
    """Strands as light, as coloured and as varied as the photo's.

    Args:
        photo: [H, W, 3] uint8 RGB.  regions: of it, with hair somewhere.
    """
    colour, contrast = hair_colour(photo, regions)
    return PartMaterial("hair", strands(colour, contrast, seed), ROUGHNESS)


def hair_colour(photo: np.ndarray, regions: Regions) -> tuple[np.ndarray, float]:
    """[3] linear light, mean of the hair that lies in light, and the standard deviation of its light's logarithm."""
    places = np.floor(regions.places().reshape(-1, 2)).astype(np.int64)
    height, width = photo.shape[:2]
    there = ((places >= 0) & (places < [width, height])).all(1)
    share = regions.shares[HAIR].ravel()
    sure = there & (share > min(SURE, np.quantile(share[there], 0.99) if there.any() else SURE))
    if not sure.any():
        sure = there
    colours = bytes_to_linear(photo[places[sure, 1], places[sure, 0]])
    light = np.log(colours.mean(axis=1).clip(1e-3))
    low, high = np.quantile(light, LIT)
    return colours[(light >= low) & (light <= high)].mean(axis=0), float(np.clip(np.std(light), *CONTRAST))


def strands(colour: np.ndarray, contrast: float, seed: int = 0) -> np.ndarray:
    """[SIZE, SIZE, 4] uint8 sRGB and opacity, row 0 at v = 1; roots above, tips below.

    Args:
        colour: [3] linear light.  contrast: see `hair_colour`.
    """
    random = np.random.default_rng(seed)
    across = _waves(random, SIZE)
    rows = np.linspace(0, 1, SIZE)[:, None]  # 0 at the roots
    # strands wander a little on their way down
    shift = 5 * np.sin(2.1 * rows + 4 * random.random()) + 2 * np.sin(7 * rows + 4 * random.random())
    column = (np.arange(SIZE)[None] + shift) % SIZE
    fine = np.interp(column, np.arange(SIZE + 1), np.append(across, across[0]))
    fine = fine + 0.25 * cv2.GaussianBlur(random.normal(size=(SIZE, SIZE)), (0, 0), sigmaX=0.7, sigmaY=18) * 6
    light = np.exp(contrast * fine / fine.std())
    light = light * (0.84 + 0.16 * np.minimum(rows / 0.35, 1))  # the roots lie in shadow
    light /= light.mean()
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    picture[..., :3] = to_bytes((colour * light[..., None]).clip(0, 1))
    half = int(SIZE * CAP_SHARE)
    opacity = np.zeros((SIZE, SIZE))
    opacity[:, :half] = _ends(random, half, rows, ENDS, 0.0)
    width = (SIZE - half) // LOCKS
    for lock in range(LOCKS):
        left = half + lock * width
        place = np.abs((np.arange(width) + 0.5) / width * 2 - 1)[None]
        # a lock narrows towards its tip and its edges are loose strands
        room = 1 - 0.75 * rows**2.2
        loose = _ends(random, width, rows, 0.55, 0.35)
        edge = ((room - place) * 7 + 0.9 * random.normal(size=(1, width))).clip(0, 1)
        opacity[:, left : left + width] = np.minimum(loose, edge)
    picture[..., 3] = (opacity * 255).round().astype(np.uint8)
    return picture


def lock_span(lock: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """u of the left and the right edge of locks by number: [...] each."""
    low = CAP_SHARE + (1 - CAP_SHARE) * np.asarray(lock) / LOCKS
    high = CAP_SHARE + (1 - CAP_SHARE) * (np.asarray(lock) + 1) / LOCKS
    return low, high


def _waves(random: np.random.Generator, count: int) -> np.ndarray:
    """[count] noise across strands: single ones, and bundles of them; it closes on itself."""
    total = np.zeros(count)
    for blur, share in ((0.6, 1.0), (2.0, 0.8), (7.0, 0.7), (20.0, 0.5)):
        noise = random.normal(size=count)
        kernel = np.exp(-0.5 * (np.arange(-3 * int(blur + 1), 3 * int(blur + 1) + 1) / blur) ** 2)
        tiled = np.tile(noise, 3)
        smooth = np.convolve(tiled, kernel / kernel.sum(), "same")[count : 2 * count]
        total += share * smooth / smooth.std()
    return total


def _ends(random: np.random.Generator, width: int, rows: np.ndarray, reach: float, last: float) -> np.ndarray:
    """[SIZE, width] in [0, 1]: every strand ends somewhere in the lowest `reach` of the rows."""
    end = 1 - reach * random.random(width) ** 1.3 * (1 - last) - 0.02
    end = np.convolve(np.tile(end, 3), np.ones(3) / 3, "same")[width : 2 * width]
    return ((end[None] - rows) * 40 + 0.5).clip(0, 1)
