"""A tar of `<name>.{webp,jpg,png}` + `<name>.json` pairs; the JSON holds `identity` and `landmarks68`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tokenface.data.record import PhotoRecord
from tokenface.errors import ImageError

IMAGE_SUFFIXES = (".webp", ".jpg", ".jpeg", ".png")
MAX_MEMBER_BYTES = 32 * 2**20


def read_landmark_tar(path: str | Path, landmark_shift: tuple[float, float] = (0.0, 0.0)) -> Iterator[PhotoRecord]:
    """Records in the order of the tar; nothing is extracted to disk.

    Args:
        path: tar file; a name may occur twice, an image pairs with the JSON of the same stem next to it.
        landmark_shift: (pixels, fraction of the landmark box's width) by which the annotations sit too far to the
            right; removed here. YouTube Faces annotations: (0.45, 0.0115), measured by mirror consistency.
    Raises:
        ImageError: no such file, or not a tar.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"no photo tar at '{path}'")
    try:
        with tarfile.open(path) as archive:
            yield from _pairs(archive, path.name, landmark_shift)
    except tarfile.TarError as error:
        raise ImageError(f"'{path}' is not a readable tar ({error})") from error


def _pairs(archive: tarfile.TarFile, name: str, shift: tuple[float, float]) -> Iterator[PhotoRecord]:
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
        label = json.loads(label_bytes)
        points = np.asarray(label["landmarks68"], dtype=np.float32)
        points[:, 0] -= shift[0] + shift[1] * float(np.ptp(points[:, 0]))
        image = np.asarray(Image.open(io.BytesIO(image_bytes)).convert("RGB"))
        yield PhotoRecord(image, points, str(label["identity"]), f"{name}:{stem}")
