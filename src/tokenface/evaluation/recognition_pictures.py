"""Test images for recognition: rendered people, and photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.data.photos import crop_labelled
from tokenface.data.record import PhotoRecord
from tokenface.data.sampling import Framing
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.head.model import HeadModel
from tokenface.identity.alignment import faces_at, five_points

CROP_SCALE = 1.75
"""Side of a photo's crop over its landmark box; rendered ones are framed as the generator frames its own."""
FRAMING = Framing(zoom=(1.4, 1.85), shift=0.04)
"""The wider half of the generator's range, which has all of what an aligned crop shows."""
BLOCK = 16
"""People who are rendered together."""


@dataclass(frozen=True)
class PeoplePictures:
    """N pictures. image: [N, 3, S, S] uint8.  points: [N, 5, 2] float32, NDC (eyes, nose, mouth corners).
    identity: [N] who, counted from 0.  session: [N] which look (hair, beard, make-up) or video of the person."""

    image: np.ndarray
    points: np.ndarray
    identity: np.ndarray
    session: np.ndarray

    @property
    def people(self) -> int:
        return int(self.identity.max()) + 1 if len(self.identity) else 0

    def __len__(self) -> int:
        return len(self.identity)

    def chunks(self, size: int = 32) -> Iterator[PeoplePictures]:
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield PeoplePictures(self.image[rows], self.points[rows], self.identity[rows], self.session[rows])

    def crops(self) -> Tensor:
        """[N, 3, S, S] in [0, 1]."""
        return torch.from_numpy(np.array(self.image)).float().div_(255)

    def aligned(self, places: Tensor, size: int) -> Tensor:
        """[N, 3, size, size] in [0, 1], the five points at `places` (`alignment.aligned_faces`)."""
        return faces_at(self.crops(), torch.from_numpy(np.array(self.points)), places, size)


@dataclass(frozen=True)
class Cast:
    """Number of rendered people, and of pictures of each: `looks` × `pictures`.

    All pictures of a person share shape and albedo. Each look has hair, beard, brows, make-up and pores of its own, so
    that these say little about who it is; light, pose, expression, glasses, hats, hands and the background are new in
    every picture.
    """

    people: int = 64
    looks: int = 3
    pictures: int = 2
    size: int = 128  # pixels of a rendered picture

    @property
    def each(self) -> int:
        return self.looks * self.pictures


def rendered_pictures(head: HeadModel, cast: Cast, seed: int) -> PeoplePictures:
    """Pictures of rendered people; a seed gives the same ones."""
    faces = SyntheticFaces(head, cast.size, SyntheticConfig(framing=FRAMING))
    parts = [
        render_block(faces, min(BLOCK, cast.people - first), cast, seed * 1_000_003 + first // BLOCK)
        for first in range(0, cast.people, BLOCK)
    ]
    image, points = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    row = np.arange(len(image))
    return PeoplePictures(image, points, row // cast.each, row // cast.pictures)


def render_block(faces: SyntheticFaces, people: int, cast: Cast, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[people · each, 3, S, S] uint8 and [people · each, 5, 2]."""
    sizes, draw = faces.head.sizes, torch.Generator().manual_seed(seed)
    shape = torch.randn(people, sizes.shape, generator=draw)
    texture = torch.randn(people, sizes.texture, generator=draw)
    batch = faces.sample(
        people * cast.each,
        draw,
        images_per_identity=cast.pictures,  # hair and complexion are drawn per look; shape and albedo are given
        shape=shape.repeat_interleave(cast.each, 0),
        texture=texture.repeat_interleave(cast.each, 0),
    )
    return (batch.image * 255).round().byte().numpy(), five_points(batch.landmarks68).numpy()


def photo_pictures(records: Sequence[PhotoRecord], size: int) -> PeoplePictures:
    """Crops of the photos. The sessions are the videos, where names end in `_<video><frame>` as in YouTube Faces."""
    names = {name: i for i, name in enumerate(sorted({r.identity for r in records}))}
    image = np.empty((len(records), 3, size, size), np.uint8)
    points = np.empty((len(records), 5, 2), np.float32)
    for i, record in enumerate(records):
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        side = float((high - low).mean()) * CROP_SCALE
        crop, landmarks = crop_labelled(record, (low + high) / 2, side, 0.0, False, size)
        image[i] = crop.transpose(2, 0, 1)
        points[i] = five_points(torch.from_numpy(landmarks)[None])[0].numpy()
    identity = np.array([names[r.identity] for r in records], np.int64)
    sessions: dict[str, int] = {}
    session = np.array([sessions.setdefault(r.source[:-1], len(sessions)) for r in records], np.int64)
    return PeoplePictures(image, points, identity, session)
