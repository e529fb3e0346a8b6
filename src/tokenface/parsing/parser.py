"""Face parsing of photos with the package's own weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks, extract_array
from tokenface.parsing.graph import LOGITS, PICTURES, package_network
from tokenface.parsing.regions import HAT, OBJECT, REGIONS, SIZE

SCALE = 2.55
"""Side of the crop over the landmarks' box (`crop_from_landmarks`): the skull with its hair, and the collar."""
SELDOM = {HAT: 0.2, OBJECT: 0.3}
"""How often photos show it, over how often the pictures did that the network was taught on: its prior is corrected."""
SHORT = 32_000
"""Points that OpenCV looks up in one row."""
LOWERED = 0.16
"""The face lies below the crop's middle by this share of half its side."""


@dataclass(frozen=True, eq=False)
class Regions:
    """crop: of the photo.  shares: [REGIONS, P, P] float32 probabilities on it."""

    crop: Crop
    shares: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """[N, 2] photo pixels → [N, REGIONS]; points beyond the crop get those at its edge."""
        size = self.shares.shape[-1]
        place = ((self.crop.to_ndc(np.asarray(points, np.float64)) + 1) * (size / 2) - 0.5).astype(np.float32)
        planes = np.ascontiguousarray(self.shares.transpose(1, 2, 0))
        found = [np.zeros((0, len(REGIONS)), np.float32)]
        for first in range(0, len(place), SHORT):
            x, y = place[None, first : first + SHORT].transpose(2, 0, 1)
            found.append(cv2.remap(planes, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0])
        return np.concatenate(found)

    def places(self) -> np.ndarray:
        """[P, P, 2] photo pixels of the shares' own pixels."""
        size = self.shares.shape[-1]
        centres = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) + 0.5) * (2 / size) - 1
        return self.crop.to_photo(centres.reshape(-1, 2)).reshape(size, size, 2)

    def on_photo(self, height: int, width: int) -> np.ndarray:
        """[H, W] uint8 labels; background beyond the crop."""
        size = self.shares.shape[-1]
        matrix = self.crop.pixel_matrix(size)
        labels = self.shares.argmax(0).astype(np.uint8)
        flags = cv2.INTER_NEAREST
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return np.asarray(cv2.warpAffine(labels, matrix, (width, height), flags=flags, borderValue=0), np.uint8)


def parsing_crop(landmarks: np.ndarray, roll: float) -> Crop:
    """The square that is parsed.

    Args:
        landmarks: [68, 2] photo pixels.  roll: radians, as `Camera`'s; the head is upright in the crop.
    """
    crop = crop_from_landmarks(landmarks, SCALE, roll)
    centre = crop.to_photo(np.array([[0.0, -LOWERED]]))[0]
    return Crop((float(centre[0]), float(centre[1])), crop.size, roll)


def parse(photo: np.ndarray, landmarks: np.ndarray, roll: float) -> Regions:
    """What the pixels round a head show.

    Args:
        photo: [H, W, 3] uint8 RGB.  landmarks: [68, 2] photo pixels.  roll: radians, as `Camera`'s.
    Raises:
        CheckpointError: the package's weights are missing or damaged.
    """
    crop = parsing_crop(landmarks, roll)
    pictures = extract_array(photo, [crop], SIZE)
    both = package_network()({PICTURES: np.concatenate([pictures, pictures[..., ::-1]])})[LOGITS] + _prior()
    both = np.exp(both - both.max(axis=1, keepdims=True))
    both /= both.sum(axis=1, keepdims=True)
    return Regions(crop, (both[0] + both[1, ..., ::-1]) / 2)


@lru_cache(maxsize=1)
def _prior() -> np.ndarray:
    """[REGIONS, 1, 1] what is added to the logits."""
    prior = np.zeros((len(REGIONS), 1, 1), np.float32)
    for region, factor in SELDOM.items():
        prior[region] = math.log(factor)
    return prior
