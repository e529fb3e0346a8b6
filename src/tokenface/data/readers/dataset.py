"""What every reader gives: items that are found without opening them, and what an item holds once it is loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.arrays import read_npy
from tokenface.core.files import read_text
from tokenface.data.record import VIDEO_SUFFIXES, Item
from tokenface.errors import DataError
from tokenface.images.loading import IMAGE_SUFFIXES, load_image

MAX_LANDMARK_BYTES = 1 << 20
"""Of a file of 68 points."""
PICTURE_SUFFIXES = IMAGE_SUFFIXES
MAX_KEY = 70
MICA_FLAME = "flame2020"
"""The FLAME that MICA's fits belong to, by the name that `tokenface head add flame` gives it."""


@dataclass(frozen=True, eq=False)
class FlameParameters:
    """A registration in FLAME's own numbers: shape [300], expression [100], jaw [3] axis-angle, radians.
    release: name of the FLAME that they were fitted with; MICA's fits are of FLAME 2020."""

    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    neutral: bool
    release: str = MICA_FLAME


@dataclass(frozen=True, eq=False)
class ScanMesh:
    """A mesh of any topology. vertices: [N, 3], any place and orientation.  faces: [F, 3].
    landmarks: [L, 3] on the mesh, numbers: [L] which of the iBUG-68 points they are.
    metres: length of one unit, None when the mesh has no true size."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    numbers: np.ndarray
    metres: float | None
    neutral: bool


@dataclass(frozen=True, eq=False)
class Loaded:
    """An item's content. images: [H, W, 3] uint8 each.  landmarks: for each image [68, 2] photo pixels or None.
    identity: where only the content tells it."""

    images: list[np.ndarray]
    landmarks: list[np.ndarray | None]
    geometry: FlameParameters | ScanMesh | None = None
    identity: str = ""


@dataclass(frozen=True)
class DatasetReader:
    """A data set. layout: one line that says what the folder must look like.  flame: the FLAME that its parameters
    belong to, where it gives some.  validates: it is what runs are watched by (Sec. 4.1), and not trained on unless it
    is asked for by name.

    find: folder → items, sorted.  load: item → content; raises DataError or ImageError, for this item alone.
    """

    name: str
    title: str
    licence: str
    layout: str
    find: Callable[[Path], Iterator[Item]]
    load: Callable[[Item], Loaded]
    flame: str | None = None
    validates: bool = False

    def items(self, root: str | Path) -> list[Item]:
        """All items of a folder.

        Raises:
            DataError: no such folder, or nothing of this layout in it.
        """
        root = Path(root).expanduser()
        if not root.exists():
            raise DataError(f"no data set at '{root}'")
        items = list(self.find(root))
        if not items:
            raise DataError(f"nothing of {self.title} in '{root}'; expected {self.layout}")
        seen: set[str] = set()
        for item in items:
            if item.key in seen:
                raise DataError(f"two items of '{root}' have the key '{item.key}' ({item.source})")
            seen.add(item.key)
        return items


def key_of(path: Path, root: Path) -> str:
    """A record's key from its place below the root: readable, without dots; a hash keeps long or odd names apart."""
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    text = relative.with_suffix("").as_posix()
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", text)
    if len(plain) <= MAX_KEY and plain == text:
        return plain
    return f"{plain[-MAX_KEY + 9 :]}_{hashlib.sha256(str(relative).encode()).hexdigest()[:8]}"


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of one folder by name; hidden files are none."""
    return _files(folder, PICTURE_SUFFIXES)


def videos_in(folder: Path) -> list[Path]:
    return _files(folder, VIDEO_SUFFIXES)


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))


def folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def load_pictures(item: Item) -> Loaded:
    """The item's pictures, or some frames of its video, with the landmarks of its list or of a file beside it."""
    from tokenface.data.readers.video import read_item

    if item.pictures[0].suffix.lower() in VIDEO_SUFFIXES:
        frames = read_item(item)
        return Loaded(frames, [None] * len(frames))
    images = [load_image(path) for path in item.pictures]
    points = landmarks_of(item)
    return Loaded(images, [points, *([None] * (len(images) - 1))])


def landmarks_of(item: Item) -> np.ndarray | None:
    """[68, 2] float32 of the item's list or landmark file; None where it has none."""
    path = item.file("landmarks")
    if item.landmarks is not None:
        return np.asarray(item.landmarks, dtype=np.float32)
    return None if path is None else read_landmarks(path)


def read_landmarks(path: Path) -> np.ndarray:
    """[68, 2] float32 from `.txt` (68 lines x y; iBUG's `.pts` too) or `.npy`.

    Raises:
        DataError: unreadable, or not 68 finite points.
    """
    try:
        if path.suffix == ".npy":
            points = read_npy(path, MAX_LANDMARK_BYTES)
        else:
            lines = [line for line in read_text(path, MAX_LANDMARK_BYTES).splitlines() if line.strip()]
            rows = [line.replace(",", " ").split() for line in lines]
            points = np.array([[float(v) for v in row[:2]] for row in rows if _is_number(row)], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"landmarks '{path}' cannot be read ({str(error)[:100]})") from error
    if points.ndim != 2 or points.shape[0] != 68 or points.shape[1] < 2 or not np.isfinite(points).all():
        raise DataError(f"landmarks '{path}' have shape {points.shape}, expected 68 finite points")
    return points[:, :2].astype(np.float32)


def _is_number(row: Sequence[str]) -> bool:
    try:
        float(row[0])
    except (ValueError, IndexError):
        return False
    return len(row) >= 2


def landmark_file(picture: Path) -> tuple[tuple[str, Path], ...]:
    """The landmark file beside a picture, for `Item.files`."""
    for suffix in (".txt", ".pts", ".npy"):
        path = picture.with_suffix(suffix)
        if path.is_file():
            return (("landmarks", path),)
    return ()
