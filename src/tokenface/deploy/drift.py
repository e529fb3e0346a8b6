"""Drift of an exported file from torch, on rendered faces that it was not calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tokenface.data.sampling import Framing
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.deploy.graphs import HeadGraph, example_coefficients
from tokenface.deploy.photo_graph import FOUND, PHOTO_OUTPUTS, PHOTOS, PhotoGraph
from tokenface.deploy.runtime import open_head, open_network
from tokenface.errors import TokenFaceError
from tokenface.graphs.sessions import open_graph
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS

PHOTO_SIZE = 256
"""Pixels of a rendered photo."""
PHOTO_FRAMING = Framing(zoom=(1.8, 4.0), shift=0.25)
"""A head with shoulders somewhere in a photo, where crops are filled by a face."""


class Chosen(NamedTuple):
    """Number of pictures of each kind, and their seed."""

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


@dataclass(frozen=True)
class Spread:
    """Distances of points: their mean, and the largest of all."""

    mean: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.2g} (at most {self.largest:.2g})"


@dataclass(frozen=True)
class Drift:
    """vertices: of posed heads, millimetres.  parameters: largest absolute difference of any; None: it gives none.

    Of files that take whole photos also landmarks: on the photo, pixels; faces: how many were found by the file, by
    torch, and by both. The rest is of those that both found.
    """

    file: str
    megabytes: float
    vertices: Spread
    parameters: float | None = None
    landmarks: Spread | None = None
    faces: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        parts = [] if self.parameters is None else [f"parameters within {self.parameters:.2g}"]
        parts.append(f"vertices {self.vertices} mm")
        if self.landmarks is not None:
            parts.append(f"landmarks {self.landmarks} pixels")
        line = f"{self.file}: {self.megabytes:.1f} MB, {', '.join(parts)} from torch"
        return line if self.faces is None else "{}; {} faces found, torch {}, both {}".format(line, *self.faces)


class DriftMeter:
    """Measures files of one network and head model."""

    def __init__(self, network: TokenFace, head: HeadModel, photos: PhotoGraph | None):
        self.network, self.head, self.photo_graph = network, head, photos
        self.crops = rendered_crops(head, network.config.image_size, TEST)

    def __call__(self, file: Path) -> Drift:
        parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
        size = sum(part.stat().st_size for part in parts) / 1e6
        measure = {"head": self._head, "photo": self._photo}.get(file.name.split(".")[0], self._network)
        with torch.inference_mode():
            return measure(file, size)

    def _head(self, file: Path, size: float) -> Drift:
        inputs = example_coefficients(self.head, TEST.crops, TEST.seed)
        return Drift(file.name, size, _millimetres(open_head(file)(*inputs), HeadGraph(self.head)(*inputs)))

    def _network(self, file: Path, size: float) -> Drift:
        ours = self.network(self.crops).to(torch.float32)
        theirs = open_network(file, self.network.config.image_size)(self.crops)
        largest = max(float((getattr(ours, n) - getattr(theirs, n)).abs().max()) for n in COMPONENTS)
        vertices = [self.head(p.shape, p.expression, p.jaw).vertices for p in (ours, theirs)]
        return Drift(file.name, size, _millimetres(*vertices), largest)

    def _photo(self, file: Path, size: float) -> Drift:
        photos, ours = self._photos_by_torch
        answer = open_graph(file, (PHOTOS,), PHOTO_OUTPUTS)({PHOTOS: photos.numpy()})
        theirs = {name: torch.from_numpy(value) for name, value in answer.items()}
        seen = [(values["score"] >= FOUND) & (values["presence"] >= FOUND) for values in (theirs, ours)]
        both = seen[0] & seen[1]
        if not both.any():
            raise TokenFaceError(f"'{file.name}' finds no face in {len(photos)} rendered photos")
        largest = max(float((ours[n] - theirs[n])[both].abs().max()) for n in COMPONENTS)
        vertices, landmarks = ([values[n][both] for values in (ours, theirs)] for n in ("vertices", "landmarks68"))
        faces = (int(seen[0].sum()), int(seen[1].sum()), int(both.sum()))
        return Drift(file.name, size, _millimetres(*vertices), largest, _spread(*landmarks), faces)

    @cached_property
    def _photos_by_torch(self) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.photo_graph is not None  # there would be no such file
        photos = rendered_photos(self.head, TEST)
        return photos, dict(zip(PHOTO_OUTPUTS, self.photo_graph(photos), strict=True))


def _spread(ours: Tensor, theirs: Tensor) -> Spread:
    distances = (ours - theirs).norm(dim=-1)
    return Spread(float(distances.mean()), float(distances.max()))


def _millimetres(ours: Tensor, theirs: Tensor) -> Spread:
    return _spread(1000 * ours, 1000 * theirs)
