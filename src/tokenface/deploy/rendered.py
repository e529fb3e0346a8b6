"""Rendered pictures that exported files are calibrated on, and others that they are measured on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tokenface.data.sampling import Framing
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.head.model import HeadModel

PHOTO_SIZE = 256
"""Pixels of a rendered photo."""
PHOTO_FRAMING = Framing(zoom=(1.8, 4.0), shift=0.25)
"""A head with shoulders somewhere in a photo, where crops are filled by a face."""


class Chosen(NamedTuple):
    """How many pictures of each kind, and from which seed."""

    crops: int
    photos: int
    seed: int


CALIBRATION = Chosen(crops=128, photos=64, seed=20_260_101)
TEST = Chosen(crops=16, photos=16, seed=20_260_102)


def rendered_crops(head: HeadModel, size: int, chosen: Chosen) -> Tensor:
    """[crops, 3, size, size] faces as a detector crops them, RGB in [0, 1]."""
    return SyntheticFaces(head, size).sample(chosen.crops, seed=chosen.seed).image


def rendered_photos(head: HeadModel, chosen: Chosen) -> Tensor:
    """[photos, 3, PHOTO_SIZE, PHOTO_SIZE] with one face in each, RGB in [0, 1]."""
    config = SyntheticConfig(framing=PHOTO_FRAMING)
    return SyntheticFaces(head, PHOTO_SIZE, config).sample(chosen.photos, seed=chosen.seed).image
