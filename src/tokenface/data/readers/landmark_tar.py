"""Tar of photos with 68 landmarks: pairs of picture and JSON, and the same as a data set."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.files import check_regular, parse_json, reason
from tokenface.data.readers.dataset import DatasetReader, Loaded, key_of
from tokenface.data.record import Item, PhotoRecord
from tokenface.errors import DataError, ImageError
from tokenface.images.loading import load_image

IMAGE_SUFFIXES = (".webp", ".jpg", ".jpeg", ".png")
MAX_MEMBER_BYTES = 32 * 2**20
MAX_TAR_BYTES = 1 << 40


@dataclass(frozen=True)
class LandmarkShift:
    """Offset of the annotations to the right of and below the picture: pixels plus a fraction of their box's width."""

    x_pixels: float = 0.0
    x_fraction: float = 0.0
    y_pixels: float = 0.0
    y_fraction: float = 0.0

    def removed_from(self, points: np.ndarray) -> np.ndarray:
        """[68, 2] points where the picture has them."""
        width = float(np.ptp(points[:, 0]))
        offset = [self.x_pixels + self.x_fraction * width, self.y_pixels + self.y_fraction * width]
        return points - np.asarray(offset, dtype=points.dtype)


YOUTUBE_FACES_SHIFT = LandmarkShift(0.45, 0.0115, 0.45, 0.004)
"""Of the public YouTube Faces annotations. x: predictions agree on a photo and its mirror image, annotations do not.
y: against the face mesh on the photos, less the face mesh's own offset on renders with known points."""


def read_landmark_tar(path: str | Path, shift: LandmarkShift | None = None) -> Iterator[PhotoRecord]:
    """Records in the order of the tar; nothing is extracted to disk.

    Args:
        path: tar file; a name may occur twice, an image pairs with the JSON of the same stem next to it.
        shift: a systematic displacement of the annotations, removed here; None: taken as they are.
    Raises:
        ImageError: no such file, not a tar, or a damaged picture or label in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"no photo tar at '{path}'")
    try:
        check_regular(path, MAX_TAR_BYTES)
        with tarfile.open(path) as archive:
            yield from _pairs(archive, path.name, shift or LandmarkShift())
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ImageError(f"'{path}' is not a readable tar ({reason(error)})") from error


def _pairs(archive: tarfile.TarFile, name: str, shift: LandmarkShift) -> Iterator[PhotoRecord]:
    waiting: tuple[str, bytes] | None = None
    for member in archive:
        if not member.isfile() or member.size > MAX_MEMBER_BYTES:
            continue
        stem, suffix = Path(member.name).stem, Path(member.name).suffix.lower()
        file = archive.extractfile(member)
        if file is None or suffix not in (*IMAGE_SUFFIXES, ".json"):
            continue
        content = file.read()
        if waiting is None or waiting[0] != stem:
            waiting = (stem, content)
            continue
        image_bytes, label_bytes = (waiting[1], content) if suffix == ".json" else (content, waiting[1])
        waiting = None
        try:
            label = parse_json(label_bytes)
            points, identity = np.asarray(label["landmarks68"], dtype=np.float32), str(label["identity"])
        except (ValueError, KeyError, TypeError) as error:
            raise ImageError(f"the label of '{stem}' in '{name}' is damaged ({str(error)[:80]})") from error
        if points.shape != (68, 2):
            raise ImageError(f"the label of '{stem}' in '{name}' has landmarks of shape {list(points.shape)}")
        try:
            image = load_image(image_bytes)
        except ImageError as error:
            raise ImageError(f"the picture of '{stem}' in '{name}' cannot be read ({error})") from error
        yield PhotoRecord(image, shift.removed_from(points), identity, f"{name}:{stem}")


def find_tar(path: Path) -> Iterator[Item]:
    """Neighbouring members of one stem; a stem may come again later in the tar."""
    if not path.is_file():
        raise DataError(f"'{path}' is not a file; expected a tar of pictures and .json labels")
    waiting: dict[str, tuple[int, int]] = {}
    stem, number = "", 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                suffix = Path(member.name).suffix.lower()
                if not member.isfile() or member.size > MAX_MEMBER_BYTES or suffix not in (*IMAGE_SUFFIXES, ".json"):
                    continue
                if Path(member.name).stem != stem:
                    stem, waiting = Path(member.name).stem, {}
                waiting["label" if suffix == ".json" else "picture"] = (member.offset_data, member.size)
                if len(waiting) == 2:
                    places = json.dumps([*waiting["picture"], *waiting["label"]])
                    # the person stands in the label; the key's number keeps repeated stems apart
                    yield Item(f"{number:06d}_{key_of(Path(stem + '.x'), Path())[-60:]}", "photo", (path,), note=places)
                    number, waiting = number + 1, {}
    except tarfile.TarError as error:
        raise DataError(f"'{path}' is not a readable tar ({reason(error)})") from error


def load_pair(item: Item) -> Loaded:
    """Reads the two members at their places."""
    path = item.pictures[0]
    start, size, label_start, label_size = json.loads(item.note)
    with path.open("rb") as file:
        file.seek(start)
        picture = file.read(size)
        file.seek(label_start)
        label_bytes = file.read(label_size)
    try:
        label = parse_json(label_bytes)
        points, identity = np.asarray(label["landmarks68"], dtype=np.float32), str(label["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the label of '{item.key}' in '{path}' is damaged ({str(error)[:80]})") from error
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise DataError(f"the label of '{item.key}' in '{path}' has landmarks of shape {points.shape}")
    return Loaded([load_image(picture)], [points], identity=identity)


READER = DatasetReader(
    "tar",
    "a tar of labelled photos",
    "as the owner of the photos says",
    "name.webp + name.json pairs with identity and landmarks68",
    find_tar,
    load_pair,
)
