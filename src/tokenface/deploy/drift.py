"""How far an exported file is from torch, on rendered faces that it was not calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokenface.data.synthetic import SyntheticFaces
from tokenface.deploy.graphs import HeadGraph, example_coefficients
from tokenface.deploy.photo_graph import PHOTO_OUTPUTS, PHOTOS, PhotoGraph
from tokenface.deploy.runtime import open_graph, open_head, open_network
from tokenface.head.model import HeadModel
from tokenface.network.components import COMPONENTS
from tokenface.network.tokenface import TokenFace

TEST_FACES = 16
TEST_SEED = 20_260_102
TEST_PHOTOS = 4
"""Rendered faces that also stand for whole photos: each costs both passes, and the detector."""


@dataclass(frozen=True)
class Drift:
    """parameters: largest absolute difference of any parameter.  vertices_mm: mean distance of the posed vertices."""

    file: str
    megabytes: float
    parameters: float
    vertices_mm: float

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.megabytes:.1f} MB, parameters within {self.parameters:.2g}, "
            f"vertices {self.vertices_mm:.2g} mm from torch"
        )


class DriftMeter:
    """Measures files of one network and head model."""

    def __init__(self, network: TokenFace, head: HeadModel, photos: PhotoGraph | None):
        self.network, self.head, self.photos = network, head, photos
        self.crops = SyntheticFaces(head, network.config.image_size).sample(TEST_FACES, seed=TEST_SEED).image

    def __call__(self, file: Path) -> Drift:
        parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
        size = sum(part.stat().st_size for part in parts) / 1e6
        measure = {"head": self._head, "photo": self._photo}.get(file.name.split(".")[0], self._network)
        with torch.inference_mode():
            return Drift(file.name, size, *measure(file))

    def _head(self, file: Path) -> tuple[float, float]:
        inputs = example_coefficients(self.head, TEST_FACES, TEST_SEED)
        return 0.0, _millimetres(open_head(file)(*inputs), HeadGraph(self.head)(*inputs))

    def _network(self, file: Path) -> tuple[float, float]:
        ours = self.network(self.crops).to(torch.float32)
        theirs = open_network(file, self.network.config.image_size)(self.crops)
        largest = max(float((getattr(ours, n) - getattr(theirs, n)).abs().max()) for n in COMPONENTS)
        vertices = [self.head(p.shape, p.expression, p.jaw).vertices for p in (ours, theirs)]
        return largest, _millimetres(*vertices)

    def _photo(self, file: Path) -> tuple[float, float]:
        assert self.photos is not None  # there would be no such file
        photos = self.crops[:TEST_PHOTOS]
        ours = dict(zip(PHOTO_OUTPUTS, self.photos(photos), strict=True))
        answer = open_graph(file, (PHOTOS,), PHOTO_OUTPUTS)({PHOTOS: photos.numpy()})
        theirs = {name: torch.from_numpy(value) for name, value in answer.items()}
        largest = max(float((ours[n] - theirs[n]).abs().max()) for n in COMPONENTS)
        return largest, _millimetres(ours["vertices"], theirs["vertices"])


def _millimetres(ours: Tensor, theirs: Tensor) -> float:
    return 1000 * float((ours - theirs).norm(dim=-1).mean())
