"""The tar of pictures with 68 points (`landmark_tar.py`) as items: one per pair, found by its place in the tar."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tokenface.core.files import parse_json, reason
from tokenface.data.readers.dataset import DatasetReader, Loaded, key_of
from tokenface.data.readers.item import Item
from tokenface.data.readers.landmark_tar import IMAGE_SUFFIXES, MAX_MEMBER_BYTES
from tokenface.errors import DataError
from tokenface.images.loading import load_image


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
