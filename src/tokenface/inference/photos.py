"""Photo loading and detection, ahead in a thread while the network is busy."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.prefetch import ahead
from tokenface.errors import ImageError, TokenFaceError
from tokenface.images.detection import Detection
from tokenface.images.loading import ImageItem

BATCH_SIZE = 16
"""Crops that go through the network together, unless a caller says otherwise."""
AHEAD = 4
"""Photos that are decoded before the network asks for them, fewer when they have more than BATCH_PIXELS together."""
BATCH_PIXELS = 150_000_000
"""Photo pixels that wait for one network batch at most: large photos are kept in memory until their second crop."""
DEBUG_VARIABLE = "TOKENFACE_DEBUG"

logger = logging.getLogger("tokenface")


@dataclass
class Photo:
    """A photo on its way to the network. image: [H, W, 3] uint8; None when `error` says why there is none."""

    item: ImageItem
    image: np.ndarray | None = None
    detections: list[Detection] = field(default_factory=list)
    error: TokenFaceError | None = None


Finder = Callable[[int, np.ndarray], list[Detection]]
"""Faces of the photo with this number in the batch of sources."""


def prepared(items: Sequence[ImageItem], find: Finder, max_pixels: int) -> Iterator[Photo]:
    """Load every item and find its faces, in order, a few ahead of the consumer.

    A photo that fails carries its error; the others go on. Closing the iterator stops the thread.
    """
    photos = (_prepare(number, item, find, max_pixels) for number, item in enumerate(items))
    return ahead(photos, AHEAD, weight=_pixels, heaviest=BATCH_PIXELS, name="tokenface-photos")


def _pixels(photo: Photo) -> int:
    return 0 if photo.image is None else photo.image.shape[0] * photo.image.shape[1]


def _prepare(number: int, item: ImageItem, find: Finder, max_pixels: int) -> Photo:
    try:
        image = item.load(max_pixels)
        return Photo(item, image, find(number, image))
    except TokenFaceError as error:
        return Photo(item, error=error)
    except MemoryError:
        return Photo(item, error=ImageError(f"'{item.name}' does not fit into memory; make it smaller"))
    except Exception as error:  # one odd photo must not cost the user the other thousand
        logger.debug("while preparing %s", item.name, exc_info=True)
        return Photo(item, error=unexpected(item, error))


def unexpected(item: ImageItem, error: Exception) -> TokenFaceError:
    """A failure that nobody foresaw, as one line; raised as it is when TOKENFACE_DEBUG is set."""
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    text = " ".join(str(error).split())[:200]
    return TokenFaceError(
        f"'{item.name}' failed with {type(error).__name__}: {text}; set {DEBUG_VARIABLE}=1 to see where, and report it"
    )


def per_photo(values: Any, items: Sequence[ImageItem], what: str) -> list[Any]:
    """Boxes or landmarks as one entry per photo (None: find them).

    Args:
        values: None; for one photo its own array; for several a list with one entry per photo, or a mapping from
            photo name, file name or path.
    Raises:
        ImageError: a list of another length, or a name that is not among the photos.
    """
    if values is None:
        return [None] * len(items)
    if isinstance(values, Mapping):
        entries = [next((values[key] for key in _keys(item) if key in values), None) for item in items]
        known = {key for item in items for key in _keys(item)}
        if unknown := [str(key) for key in values if str(key) not in known]:
            raise ImageError(f"{what} are given for '{unknown[0]}', which is not among the photos")
        return entries
    if len(items) == 1:
        single = isinstance(values, Sequence) and len(values) == 1 and (values[0] is None or np.ndim(values[0]) > 1)
        return [values[0] if single else values]
    if len(values) != len(items):
        raise ImageError(f"{what} need one entry per photo (None to find the faces): {len(items)}, got {len(values)}")
    return list(values)


def _keys(item: ImageItem) -> list[str]:
    if isinstance(item.source, str | os.PathLike):
        return [item.name, os.fspath(item.source), Path(item.source).name]
    return [item.name]


def groups(photos: Iterator[Photo], batch_size: int) -> Iterator[list[Photo]]:
    """Photos until their faces fill a batch, or their pixels fill the memory. The division depends on the photos
    alone, so that two runs agree to the last bit."""
    group: list[Photo] = []
    faces = pixels = 0
    for photo in photos:
        group.append(photo)
        faces += len(photo.detections)
        pixels += _pixels(photo)
        if faces >= batch_size or pixels >= BATCH_PIXELS or len(group) >= 4 * batch_size:
            yield group
            group, faces, pixels = [], 0, 0
    if group:
        yield group
