"""A tar of `<name>.{webp,jpg,png}` + `<name>.json` pairs; the JSON holds `identity` and `landmarks68`."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.files import check_regular, parse_json, reason
from tokenface.data.record import PhotoRecord
from tokenface.errors import ImageError
from tokenface.images.loading import load_image

IMAGE_SUFFIXES = (".webp", ".jpg", ".jpeg", ".png")
MAX_MEMBER_BYTES = 32 * 2**20
MAX_TAR_BYTES = 1 << 40


@dataclass(frozen=True)
class LandmarkShift:
    """How far annotations sit to the right of and below the picture: pixels plus a fraction of their box's width."""

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
