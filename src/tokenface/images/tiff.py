"""TIFF beyond eight bits: the largest page, in the stored numeric type.

Pillow and OpenCV read some of these layouts as noise (planes of 16 and 32 bits, unsigned 32 bits), so that nothing but
a face that is not found says so. Uncompressed ones are read here; what is left is refused.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator

import numpy as np
from PIL import TiffImagePlugin

from tokenface.errors import ImageError

PAGES = 64
"""Pages that are looked at: whole slides have thousands."""
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, KIND = 256, 257, 258, 259, 262, 254
STRIPS, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILES, FORMAT = 273, 277, 278, 284, 322, 323, 324, 339
ORIENTATION, PROFILE = 274, 34675
MASK = 4

Tags = TiffImagePlugin.ImageFileDirectory_v2


def is_tiff(data: bytes) -> bool:
    """Whether encoded bytes are a TIFF (BigTIFF is not read)."""
    return data[:4] in (b"II*\0", b"MM\0*")


def largest_page(data: bytes) -> tuple[int, Tags] | None:
    """Number and tags of the page with most pixels (a scanner's first page may be its thumbnail); None: no page."""
    best: tuple[int, Tags] | None = None
    for number, tags in enumerate(_pages(data)):
        if not _number(tags, KIND, 0) & MASK and (best is None or _pixels(tags) > _pixels(best[1])):
            best = (number, tags)
    return best


def size_of(tags: Tags) -> tuple[int, int]:
    """Width and height, pixels."""
    return _number(tags, WIDTH, 0), _number(tags, HEIGHT, 0)


def _pages(data: bytes) -> Iterator[Tags]:
    """The tags of page after page. Damaged later pages leave the earlier ones; a damaged first one is the decoder's to
    report."""
    stream = io.BytesIO(data)
    seen: set[int] = set()
    try:
        at = Tags(data[:8]).next
        while at and at not in seen and len(seen) < PAGES:
            seen.add(at)
            stream.seek(at)
            tags = Tags(data[:8])
            tags.load(stream)
            yield tags
            at = tags.next
    except (SyntaxError, OSError, ValueError, TypeError, KeyError, struct.error):
        return


def stored_numbers(data: bytes, tags: Tags, label: str) -> np.ndarray | None:
    """[H, W, C] of a page of more than eight bits that is not compressed; None: a layout that decoders read rightly.

    Raises:
        ImageError: cut off, or a layout that nobody here reads rightly.
    """
    bits, form = _number(tags, BITS, 1), _number(tags, FORMAT, 1)
    samples, planes = _number(tags, SAMPLES, 1), _number(tags, PLANAR, 1) == 2
    if bits not in (16, 32) or _number(tags, PHOTOMETRIC, -1) not in (0, 1, 2) or samples not in (1, 2, 3, 4):
        return None
    if _number(tags, COMPRESSION, 1) != 1:
        if bits == 32 and (
            (planes and samples > 1) or (samples == 1 and form == 1) or (form == 3 and data[:1] == b"M")
        ):
            raise ImageError(f"{label} is a compressed TIFF of 32 bits that cannot be read; save it as PNG or JPEG.")
        return None
    kind = {1: "u", 2: "i", 3: "f"}.get(form, "u") + str(bits // 8)
    array = _pieces(data, tags, np.dtype(kind).newbyteorder("<" if data[:1] == b"I" else ">"), planes, label)
    if _number(tags, PHOTOMETRIC, 1) == 0:  # 0 is white
        array = (1 if form == 3 else np.iinfo(kind).max) - array
    return array


def _pieces(data: bytes, tags: Tags, kind: np.dtype, planes: bool, label: str) -> np.ndarray:
    """Strips or tiles put together, plane by plane or pixel by pixel."""
    (width, height), samples = size_of(tags), _number(tags, SAMPLES, 1)
    tiled = TILES in tags
    rows = min(_number(tags, ROWS, height), height)
    across, down = (_number(tags, TILE_WIDTH, 0), _number(tags, TILE_HEIGHT, 0)) if tiled else (width, rows)
    offsets = tags.get(TILES if tiled else STRIPS, ())
    deep, channels = (samples, 1) if planes else (1, samples)
    if min(width, height, across, down) < 1:
        raise ImageError(f"{label} is a damaged TIFF: {width} × {height} pixels in pieces of {across} × {down}.")
    columns, lines = math.ceil(width / across), math.ceil(height / down)
    if len(offsets) < deep * columns * lines or width * height * samples * kind.itemsize > len(data):
        raise ImageError(f"{label} is truncated or damaged (a TIFF whose pieces are missing).")
    out = np.empty((height, width, samples), kind.newbyteorder("="))
    for index in range(deep * columns * lines):
        plane, place = divmod(index, columns * lines)
        y, x = place // columns * down, place % columns * across
        tall = down if tiled else min(down, height - y)
        count, start = tall * across * channels, int(offsets[index])
        if not 0 <= start <= len(data) - count * kind.itemsize:
            raise ImageError(f"{label} is truncated or damaged (a TIFF whose pieces are missing).")
        piece = np.frombuffer(data, kind, count, start).reshape(tall, across, channels)[: height - y, : width - x]
        where = out[y : y + down, x : x + across]
        where[..., plane : plane + channels] = piece
    return out


def _number(tags: Tags, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) and value else default if isinstance(value, tuple) else value)


def _pixels(tags: Tags) -> int:
    return math.prod(size_of(tags))
