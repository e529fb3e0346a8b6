"""Batches from shards: records cropped, rotated, mirrored and stacked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.data.photos import CropJitter, SquareCrop
from tokenface.data.record import UNKNOWNS, FaceRecord, Geometry, Picture, identity_labels
from tokenface.errors import DataError
from tokenface.geometry.landmarks import MIRROR68


@dataclass(frozen=True)
class GeometryBatch:
    """The scans of a batch. rows: [G] their places in it.  vertices: [G, V, 3], metres, head space.
    neutral: [G] bool, the shape alone explains the face.  unknown: [G] int64 into `UNKNOWNS`, what the vertices leave
    open.  head: `geometry_hash` of the head model whose vertices these are."""

    rows: Tensor
    vertices: Tensor
    neutral: Tensor
    unknown: Tensor
    head: str

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GeometryBatch:
        """On a device, but for `unknown`: what is computed depends on it."""
        rows, vertices, neutral = (
            part.to(device, non_blocking=non_blocking) for part in (self.rows, self.vertices, self.neutral)
        )
        return GeometryBatch(rows, vertices, neutral, self.unknown, self.head)


@dataclass(frozen=True)
class RecordBatch:
    """B crops; with clips of F > 1 frames every picture-wise field has a second dimension F.

    image: [B, (F,) 3, S, S] in [0, 1].  landmarks68: [B, (F,) 68, 2] crop NDC, visible68: [B, (F,) 68] bool, inside
    the crop too.  mask: [B, (F,) 1, S, S] in [0, 1]; 0 everywhere where the record has none.  angles: [B, (F,) 3] yaw,
    pitch, roll in radians, as in the crop.  identity: [B] int64, equal for pictures of one person of this batch, of
    which either all are mirrored or none.
    geometry: of the scans among them, or None.  keys: of the records.  kinds: of the records.
    """

    image: Tensor
    landmarks68: Tensor
    visible68: Tensor
    mask: Tensor
    angles: Tensor
    identity: Tensor
    geometry: GeometryBatch | None
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    defects: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RecordBatch:
        """On a device, but for `identity` and `geometry.unknown`: what is computed depends on them."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in moved.items():
            if name != "identity" and isinstance(value, Tensor | GeometryBatch):
                moved[name] = value.to(device, non_blocking=non_blocking)
        return RecordBatch(**moved)


@dataclass(frozen=True)
class Example:
    """One record, cropped, as numpy arrays; shapes as in RecordBatch without B. F = 1 keeps its dimension.
    mirrored: left and right changed places."""

    image: np.ndarray
    landmarks68: np.ndarray
    visible68: np.ndarray
    mask: np.ndarray
    angles: np.ndarray
    key: str
    kind: str
    identity: str
    geometry: Geometry | None
    mirrored: bool = False
    defects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CropOptions:
    """size: pixels of the crops.  frames: consecutive frames of a clip (1 or 3).  mirror_vertices: [V] the vertex on
    the other side, of the head model; without it records with geometry are not mirrored."""

    size: int = 224
    frames: int = 1
    jitter: CropJitter = field(default_factory=CropJitter)
    mirror_vertices: np.ndarray | None = None


def crop_record(record: FaceRecord, options: CropOptions, seed: int, batch_seed: int | None = None) -> Example:
    """A random crop of a record; the same seeds give the same crop.

    Frames of a clip are consecutive ones, cropped alike; a photo stands for all frames of a clip.

    Args:
        batch_seed: of the batch: its pictures of one person are mirrored together or not at all, because Eqs. 5 and 9
            exchange their shapes, and a mirrored face has another one. None: each record by its own seed.
    """
    rng = np.random.default_rng(seed)
    jitter = options.jitter
    chosen = _frames(record, options.frames, rng)
    middle = chosen[len(chosen) // 2]
    low, high = middle.landmarks.min(0), middle.landmarks.max(0)
    side = max(float((high - low).mean()) * rng.uniform(*jitter.scale), 1.0)
    centre = (low + high) / 2 + rng.uniform(-jitter.shift, jitter.shift, 2) * side
    angle = float(np.deg2rad(rng.uniform(-jitter.roll_degrees, jitter.roll_degrees)))
    may_mirror = jitter.mirror and (record.geometry is None or options.mirror_vertices is not None)
    mirror = _heads(rng, batch_seed, record.identity) and may_mirror
    crop = SquareCrop(centre, side, angle, mirror, options.size)
    parts = [_crop_picture(picture, crop, angle) for picture in chosen]
    image, landmarks, visible, mask, angles = (np.stack(part) for part in zip(*parts, strict=True))
    geometry = record.geometry
    if geometry is not None and mirror:
        assert options.mirror_vertices is not None
        if len(geometry.vertices) != len(options.mirror_vertices):
            raise DataError(
                f"'{record.source}' has {len(geometry.vertices)} vertices, the head model "
                f"{len(options.mirror_vertices)}; prepare the data set for this head model"
            )
        vertices = geometry.vertices[options.mirror_vertices] * np.array([-1, 1, 1], np.float32)
        geometry = replace(geometry, vertices=vertices)
    return Example(image, landmarks, visible, mask, angles, record.key, record.kind, record.identity, geometry, mirror)


def _heads(rng: np.random.Generator, batch_seed: int | None, identity: str) -> bool:
    """The toss of a coin; in one batch the same for all pictures of one person."""
    if batch_seed is not None and identity:
        rng = np.random.default_rng((batch_seed, zlib.crc32(identity.encode())))
    return bool(rng.random() < 0.5)


def _frames(record: FaceRecord, count: int, rng: np.random.Generator) -> list[Picture]:
    available = len(record.pictures)
    if available < count:
        return [record.pictures[min(i, available - 1)] for i in range(count)]
    first = int(rng.integers(available - count + 1))
    return list(record.pictures[first : first + count])


def _crop_picture(picture: Picture, crop: SquareCrop, angle: float) -> tuple[np.ndarray, ...]:
    points = crop.landmarks(picture.landmarks)
    visible = picture.visible[list(MIRROR68)] if crop.mirror else picture.visible
    visible = visible & (np.abs(points) < 1).all(1)
    mask = np.zeros((crop.size, crop.size), np.uint8)
    if picture.mask is not None:
        mask = crop.pixels(picture.mask, cv2.BORDER_CONSTANT)
    yaw, pitch, roll = picture.angles
    roll = roll - angle  # the content turns clockwise
    if crop.mirror:
        yaw, roll = -yaw, -roll
    return crop.pixels(picture.image), points, visible, mask, np.array([yaw, pitch, roll], np.float32)


def collate(examples: list[Example]) -> RecordBatch:
    """Stack examples.

    Raises:
        DataError: geometries of different head models, which one shard folder must not hold.
    """
    with_geometry = [(row, e.geometry) for row, e in enumerate(examples) if e.geometry is not None]
    geometry = None
    if with_geometry:
        heads = {g.head for _, g in with_geometry}
        if len(heads) > 1:
            raise DataError(
                f"scans of different head models in one batch ({', '.join(sorted(heads))}); keep one folder of shards "
                "per head model"
            )
        geometry = GeometryBatch(
            rows=torch.tensor([row for row, _ in with_geometry]),
            vertices=torch.from_numpy(np.stack([g.vertices for _, g in with_geometry])).clone(),
            neutral=torch.tensor([g.neutral for _, g in with_geometry]),
            unknown=torch.tensor([UNKNOWNS.index(g.unknown) for _, g in with_geometry]),
            head=heads.pop(),
        )
    image = torch.from_numpy(np.stack([e.image for e in examples])).movedim(-1, 2).float().div_(255)
    mask = torch.from_numpy(np.stack([e.mask for e in examples]))[:, :, None].float().div_(255)
    points = torch.from_numpy(np.stack([e.landmarks68 for e in examples])).clone()
    visible = torch.from_numpy(np.stack([e.visible68 for e in examples]))
    angles = torch.from_numpy(np.stack([e.angles for e in examples])).clone()
    parts = [image, points, visible, mask, angles]
    if image.shape[1] == 1:
        parts = [part[:, 0] for part in parts]
    image, points, visible, mask, angles = (part.contiguous() for part in parts)
    return RecordBatch(
        image,
        points,
        visible,
        mask,
        angles,
        identity=identity_labels([_person(e) for e in examples]),
        geometry=geometry,
        keys=tuple(e.key for e in examples),
        kinds=tuple(e.kind for e in examples),
        defects=tuple(defect for e in examples for defect in e.defects),
    )


def _person(example: Example) -> str:
    """Whose shape it is: a person in the mirror is another one (a scan that cannot be mirrored, beside photos)."""
    return f"{example.identity}\0mirrored" if example.identity and example.mirrored else example.identity
