"""Face parsing of photos with the package's own weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop, crop_from_landmarks, extract
from tokenface.parsing.network import SIZE, ParsingNetwork
from tokenface.parsing.regions import HAT, OBJECT, REGIONS

FILE_NAME = "parsing.safetensors"
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


def parse(photo: np.ndarray, landmarks: np.ndarray, roll: float, size: int = SIZE) -> Regions:
    """What the pixels round a head show.

    Args:
        photo: [H, W, 3] uint8 RGB.  landmarks: [68, 2] photo pixels.  roll: radians, as `Camera`'s.
        size: side of the network's picture, a multiple of 32.
    Raises:
        CheckpointError: the package's weights are missing or damaged.
    """
    crop = parsing_crop(landmarks, roll)
    network = package_network()
    with torch.inference_mode():
        pictures = extract(photo, [crop], size)
        both = (network(torch.cat([pictures, pictures.flip(3)])) + _prior()).softmax(1)
        shares = (both[0] + both[1].flip(2)) / 2
    return Regions(crop, shares.numpy())


@lru_cache(maxsize=1)
def _prior() -> torch.Tensor:
    """[REGIONS, 1, 1] what is added to the logits."""
    prior = torch.zeros(len(REGIONS), 1, 1)
    for region, factor in SELDOM.items():
        prior[region] = math.log(factor)
    return prior


@lru_cache(maxsize=1)
def package_network() -> ParsingNetwork:
    """The network with the package's weights, on the CPU; not to be changed."""
    return load_network(resources.files("tokenface").joinpath("assets", FILE_NAME).read_bytes(), FILE_NAME)


def load_network(data: bytes, called: str | Path) -> ParsingNetwork:
    """Raises CheckpointError for a damaged file."""
    network = ParsingNetwork()
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in load(data).items()})
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"'{called}' holds no weights of face parsing ({error})") from error
    return network.eval().to(memory_format=torch.channels_last)
