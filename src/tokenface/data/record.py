"""Training examples: records before cropping, items on disk, batches with every ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from tokenface.data.held_out import Split
from tokenface.parameters import FaceParameters

Kind = Literal["photo", "clip", "scan", "synthetic"]
KINDS: tuple[Kind, ...] = ("photo", "clip", "scan", "synthetic")
Unknown = Literal["nothing", "place", "size"]
UNKNOWNS: tuple[Unknown, ...] = ("nothing", "place", "size")
"""What vertices leave open of a head in its own space: nothing (the model's own parameters); place and orientation (a
registered scan, whose placement is an estimate, millimetres off); these and the size (a scan without a true one)."""


@dataclass(frozen=True)
class PhotoRecord:
    """A photo with the 68 iBUG points of one face.

    image: [H, W, 3] uint8 RGB.  landmarks: [68, 2] float32, photo pixels (pixel centres at +0.5).
    identity: name of the person, for splits.  source: where it came from, for error messages.
    """

    image: np.ndarray
    landmarks: np.ndarray
    identity: str
    source: str


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of one face. Points are picture pixels, pixel centres at +0.5.

    image: [H, W, 3] uint8 RGB.  landmarks: [68, 2] float32, iBUG.  visible: [68] bool.
    landmarks468: [468, 3] float32 face-mesh points, z in pixels, smaller is nearer; None where no mesh was found.
    mask: [H, W] uint8, 255 on the face's skin, 0 elsewhere; None: not known.  box: [4] x0, y0, x1, y1, brows to chin.
    angles: [3] float32 yaw, pitch, roll in radians, as `Camera.angles`.
    """

    image: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    angles: np.ndarray
    box: np.ndarray
    landmarks468: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Geometry:
    """Geometry of a head from a scan.

    vertices: [V, 3] float32, metres, head space of the head model (no head rotation), with the expression and jaw of
    the scan.  neutral: the face is relaxed, so the shape alone explains it (Sec. 3.2.1).  head: `geometry_hash` of the
    head model whose vertices these are.  unknown: what a loss must not take from them.
    """

    vertices: np.ndarray
    neutral: bool
    head: str
    unknown: Unknown = "nothing"


@dataclass(frozen=True, eq=False)
class FaceRecord:
    """One training example.

    key: unique in its data set, a file name without dots.  pictures: one, or the consecutive frames of a clip.
    identity: name of the person, unique over all data sets; "" where nobody knows.  dataset, source: where it came
    from.  licence: of the picture, as the data set states it.  geometry: of scans and rendered faces.
    """

    key: str
    kind: Kind
    pictures: tuple[Picture, ...]
    identity: str
    dataset: str
    source: str
    licence: str
    geometry: Geometry | None = None


class HasIdentity(Protocol):
    @property
    def identity(self) -> str: ...


Record = TypeVar("Record", bound=HasIdentity)


def split_by_identity(records: Sequence[Record], split: Split) -> tuple[list[Record], list[Record]]:
    """(training, held-out) records; a person is in one of them only.

    Raises:
        ValueError: nobody would be left to train on.
    """
    held = split.held_out({record.identity for record in records})
    return (
        [record for record in records if record.identity not in held],
        [record for record in records if record.identity in held],
    )


def identity_labels(names: list[str]) -> Tensor:
    """[B] labels of people by name, in the order of first appearance; an empty name is somebody of his own."""
    numbers: dict[str, int] = {}
    labels = []
    for index, name in enumerate(names):
        labels.append(numbers.setdefault(name or f"\0{index}", len(numbers)))
    return torch.tensor(labels, dtype=torch.int64)


VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"))


@dataclass(frozen=True)
class Item:
    """One thing on disk that becomes one record. Small, and sent to worker processes; nothing is decoded yet.

    key: unique in the data set.  pictures: files, several for a clip of frames; one video file is a clip too.
    identity: name of the person inside the data set, "" unknown.  landmarks: [68, 2] photo pixels when the list of the
    data set has them.  files: further files by role ("landmarks", "geometry", …).  neutral: of the geometry.
    note: what the reader itself needs to find the item again inside its file.
    """

    key: str
    kind: Kind
    pictures: tuple[Path, ...]
    identity: str = ""
    landmarks: tuple[tuple[float, float], ...] | None = None
    files: tuple[tuple[str, Path], ...] = ()
    neutral: bool = True
    note: str = ""

    @property
    def source(self) -> str:
        return f"{self.pictures[0]}:{self.key}" if self.note else str(self.pictures[0])

    def file(self, role: str) -> Path | None:
        return dict(self.files).get(role)

    def on_disk(self) -> tuple[Path, ...]:
        """Files that the record depends on."""
        return (*self.pictures, *(path for _, path in self.files))


@dataclass(frozen=True)
class FaceBatch:
    """B synthetic pictures. Points are crop NDC (x right, y down, −1 and +1 are the crop's edges).

    image: [B, 3, S, S] sRGB in [0, 1].  parameters: every component.  vertices: [B, V, 3] posed, head space, metres.
    neutral: [B, V, 3] without expression and jaw.  landmarks68: [B, 68, 2], visible68: [B, 68] bool (inside the crop,
    not behind the head itself, not behind hair, glasses frames, hats or hands); likewise the 468 mesh points, zeros
    and never visible on heads without them.  mask: [B, 1, S, S] face skin that nothing opaque covers, in [0, 1].
    identity: [B] int64, equal for pictures of one person of this batch.  regions: [B, S, S] uint8, what each pixel
    shows (`parsing.regions`); None where nobody asked for it.
    """

    image: Tensor
    parameters: FaceParameters
    vertices: Tensor
    neutral: Tensor
    landmarks68: Tensor
    visible68: Tensor
    landmarks468: Tensor
    visible468: Tensor
    mask: Tensor
    identity: Tensor
    regions: Tensor | None = None

    def __len__(self) -> int:
        return self.image.shape[0]

    def __getitem__(self, index) -> FaceBatch:
        return FaceBatch(**{name: value[index] for name, value in self._given().items()})

    def to(self, device: torch.device | str) -> FaceBatch:
        return FaceBatch(**{name: value.to(device) for name, value in self._given().items()})

    def _given(self) -> dict[str, Any]:
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
