"""Recognition vectors of faces in a picture: chips cut by 68 landmarks, then the recognition network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from tokenface.geometry.crop import Crop, extract
from tokenface.geometry.similarity import planar_similarity
from tokenface.identity.alignment import five_points
from tokenface.identity.recognition import CHIP_POINTS, RecognitionNetwork, load_recognition

TOGETHER = 8
"""Chips of a batch: more of them take as long each and more memory."""


@cache
def shipped_recognition() -> RecognitionNetwork:
    """The shipped network, read once."""
    return load_recognition()


def chip_crop(landmarks68: np.ndarray) -> Crop:
    """The square of the photo that is the chip of a face: its five points lie nearest to CHIP_POINTS.

    Args:
        landmarks68: [68, 2] photo pixels.
    """
    points = five_points(torch.from_numpy(np.asarray(landmarks68, np.float64))[None])
    size = RecognitionNetwork.size
    (a, minus_b, x), (b, _, y) = planar_similarity(CHIP_POINTS.double()[None], points)[0].tolist()
    middle = size / 2
    centre = (a * middle + minus_b * middle + x, b * middle + a * middle + y)
    return Crop(centre, math.hypot(a, b) * size, math.atan2(-b, a))


@torch.inference_mode()
def recognition_vectors(
    image: np.ndarray, landmarks68: Sequence[np.ndarray], network: RecognitionNetwork | None = None
) -> np.ndarray:
    """Who the faces of a picture are.

    Args:
        image: [H, W, 3] uint8 RGB.  landmarks68: of each face, [68, 2] pixels.
        network: on the CPU; None: the shipped one.
    Returns:
        [N, 128] float32; two vectors of one person are about 0.4 apart, of two people about 0.8 (Euclidean distance).
    """
    network = network or shipped_recognition()
    found = [
        network(extract(image, [chip_crop(points) for points in landmarks68[first : first + TOGETHER]], network.size))
        for first in range(0, len(landmarks68), TOGETHER)
    ]
    return torch.cat(found).numpy() if found else np.empty((0, network.dimensions), np.float32)
