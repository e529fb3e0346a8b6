"""Rendered people as shards, scans and photos: training data for the paper's losses without a data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tokenface.data.record import FaceBatch, FaceRecord, Geometry, Picture
from tokenface.data.shards import encode_record, find_shards, write_shard
from tokenface.data.shards.index import ShardIndex
from tokenface.data.synthetic import GENERATOR_VERSION, SyntheticFaces
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.training.batches import mixed

PEOPLE_PER_SHARD = 64
SEED = 31
"""Keeps these people apart from those of the replay ring."""


def rendered_people(
    folder: Path, head: HeadModel, people: int, pictures: int, size: int, seed: int = 0
) -> list[ShardIndex]:
    """Shards of people, written where they are missing.

    Args:
        folder: of the shards.  people, pictures: how many, of each.  size: of the network's crops; the pictures show
            the face with room around it, as photos do.
    Returns:
        The indices. Every second person is a scan (kind "scan", with expressions), the others are
        photos (kind "photo", with landmarks, mask and head angles).
    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    faces = SyntheticFaces(head, 8 * -(-size // 8))
    geometry = head.data.geometry_hash()
    prefix = f"rendered-v{GENERATOR_VERSION}-{size}-{geometry[:8]}-{seed}-{pictures}-"
    names = set()
    for first in range(0, people, PEOPLE_PER_SHARD):
        count = min(PEOPLE_PER_SHARD, people - first)
        path = folder / f"{prefix}{first:06d}-{count:03d}.tar"
        names.add(path.name)
        if not path.is_file():
            write_shard(path, _encoded(faces, geometry, first, count, pictures, seed))
    return [shard for shard in find_shards(folder) if shard.path.name in names]


def _encoded(
    faces: SyntheticFaces, geometry: str, first: int, count: int, pictures: int, seed: int
) -> Iterator[tuple[str, dict[str, bytes]]]:
    for person in range(first, first + count):
        batch = faces.sample(pictures, mixed(SEED + seed, person), images_per_identity=pictures)
        for index in range(pictures):
            record = _record(batch, index, person, None if person % 2 else geometry)
            yield record.key, encode_record(record)


def _record(batch: FaceBatch, index: int, person: int, geometry: str | None) -> FaceRecord:
    size = batch.image.shape[-1]
    points = ((batch.landmarks68[index] + 1) * (size / 2)).cpu().numpy().astype(np.float32)
    angles = Camera.from_vector(batch.parameters.camera[index : index + 1]).angles()[0]
    low, high = points[17:].min(0), points[:17].max(0)
    picture = Picture(
        image=(batch.image[index].permute(1, 2, 0) * 255).round().byte().cpu().numpy(),
        landmarks=points,
        visible=batch.visible68[index].cpu().numpy(),
        angles=angles.cpu().numpy().astype(np.float32),
        box=np.array([low[0], low[1], high[0], high[1]], np.float32),
        mask=(batch.mask[index, 0] * 255).round().byte().cpu().numpy(),
    )
    vertices = batch.vertices[index].cpu().numpy().astype(np.float32)
    return FaceRecord(
        key=f"person{person:06d}-{index:02d}",
        kind="photo" if geometry is None else "scan",
        pictures=(picture,),
        identity=f"rendered-{person:06d}",
        dataset="rendered",
        source=f"rendered person {person}, picture {index}",
        licence="CC0-1.0",
        geometry=None if geometry is None else Geometry(vertices, False, geometry),
    )
