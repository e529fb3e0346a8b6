"""Image loading: any file a user may hand over → RGB uint8 [H, W, 3], upright as its EXIF tag says."""

from __future__ import annotations

import io
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tokenface.core.files import read_regular, without_results
from tokenface.errors import ImageError
from tokenface.images.colour import to_srgb
from tokenface.images.tiff import ORIENTATION, PROFILE, Tags, is_tiff, largest_page, size_of, stored_numbers

if TYPE_CHECKING:
    from torch import Tensor

DECODING_BYTES = 3 << 30
"""Memory of all pictures that are being decoded at a time; one that needs more is decoded alone."""


class Budget:
    """Bytes that may be in use together. total: of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Wait until `count` bytes are free, or nobody else holds any, and hold them during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self.used == 0 or self.used + count <= self.total)
            self.used += count
        try:
            yield
        finally:
            with self._changed:
                self.used -= count
                self._changed.notify_all()


decoding = Budget(DECODING_BYTES)
"""The process's own."""


FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "TGA")
"""Pillow's plugins that are let near a file, where they are there; others start programs (EPS) or unpack without limit.
JPEG brings MPO."""
MAX_BYTES = 1 << 30
"""Of a picture's file."""
PIXEL_BYTES = 16
"""Memory per pixel at the peak of decoding, whatever the depth and the channels: Pillow's own copy (at most 4), the
upright one, the one without transparency, and the result."""
BLOCK_VALUES = 1 << 22
"""Numbers of an array that are scaled at a time."""
MAX_PIXELS = 120_000_000
"""Larger pictures are refused unless the caller allows more: a small file can unpack to fill the memory."""
IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "bmp", "gif", "tif", "tiff"),
        *("ppm", "pgm", "heic", "heif", "hif", "avif", "jp2", "tga"),
    )
)
BACKGROUND = 127
"""Grey level that shows through transparent pixels."""

ENCODED = "the encoded picture"
"""What messages call encoded bytes that have no name."""

ImageLike: TypeAlias = "str | os.PathLike | bytes | BinaryIO | np.ndarray | Image.Image | Tensor"

_pillow_limit_lock = threading.Lock()


@dataclass(frozen=True)
class ImageItem:
    """One picture that is to be loaded: a name for messages and output folders, and where its pixels come from."""

    name: str
    source: ImageLike

    @property
    def identity(self) -> str:
        """What tells it from other pictures: its address or absolute path, else its name."""
        if isinstance(self.source, str | os.PathLike):
            source = os.fspath(self.source)
            return source if "://" in source else str(Path(source).expanduser().resolve())
        return f"memory:{self.name}"

    def load(self, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """[H, W, 3] uint8 RGB; raises ImageError."""
        return load_image(self.source, max_pixels)


@dataclass(frozen=True)
class EncodedItem(ImageItem):
    """`source`: encoded bytes.  called: what messages call them."""

    called: str = ENCODED

    def load(self, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        return load_image(self.source, max_pixels, encoded=self.called)


def is_tensor(source: Any) -> TypeGuard[Tensor]:
    """Whether it is one of torch's, which is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def load_image(source: ImageLike, max_pixels: int = MAX_PIXELS, *, encoded: str = ENCODED) -> np.ndarray:
    """Load one picture.

    Args:
        source: a path; encoded bytes; a file open for reading them; a PIL image; an RGB(A) or grey array [H, W] or
            [H, W, C]; a tensor [C, H, W] or [1, C, H, W]. Integer arrays use the full range of their type; floats are
            in [0, 1], or in [0, 255] when any value exceeds 1.
        max_pixels: width × height that is still accepted.
        encoded: what messages call encoded bytes.
    Returns:
        [H, W, 3] uint8 RGB, contiguous. Animations give their first frame, transparency shows grey.
    Raises:
        ImageError: missing, empty, truncated, not a picture, too large.
    """
    if is_tensor(source):
        return _from_tensor(source, max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array", max_pixels)
    if isinstance(source, Image.Image):
        return _from_pillow(source, "the PIL image", max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), encoded, max_pixels)
    if isinstance(source, str | os.PathLike):
        return _decode(_read(source), f"'{os.fspath(source)}'", max_pixels)
    if hasattr(source, "read"):
        return _decode(_read_open(source), "the open file", max_pixels)
    raise ImageError(f"expected a path, bytes, open file, array, PIL image or tensor, got {type(source).__name__}.")


def collect_images(source: ImageLike | Iterable[Any], recursive: bool = False) -> list[ImageItem]:
    """Every picture that a source stands for, in a fixed order; nothing is decoded yet.

    Args:
        source: what `load_image` takes; a folder (pictures by suffix, sorted by path, hidden ones left out); a list
            of any of these; a batch [B, H, W, C] array or [B, C, H, W] tensor.
        recursive: folders with everything below them.
    Raises:
        ImageError: a folder without pictures, an empty list, something else altogether. A missing file in a list is
            found when it is loaded, so that the others are still done.
    """
    items = _collect(source, recursive, "image")
    if not items:
        raise ImageError("expected at least one picture, got an empty list.")
    return items


def _collect(source: Any, recursive: bool, name: str) -> list[ImageItem]:
    if isinstance(source, ImageItem):
        return [source]
    if (isinstance(source, np.ndarray) or is_tensor(source)) and source.ndim == 4:
        return [ImageItem(f"{name}_{i:04d}", frame) for i, frame in enumerate(source)]
    if is_tensor(source) or isinstance(source, np.ndarray | Image.Image | bytes | bytearray | memoryview):
        filename = getattr(source, "filename", "")
        picture = bytes(source) if isinstance(source, bytearray | memoryview) else source
        return [ImageItem(Path(filename).stem if filename else name, picture)]
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        return _folder(path, recursive) if path.is_dir() else [ImageItem(path.stem, path)]
    if hasattr(source, "read"):
        label = getattr(source, "name", "")
        return [ImageItem(Path(label).stem if isinstance(label, str) and label else name, _read_open(source))]
    if isinstance(source, Iterable):
        return [item for i, part in enumerate(source) for item in _collect(part, recursive, f"{name}_{i:04d}")]
    raise ImageError(f"expected a path, folder, picture or list of these, got {type(source).__name__}.")


def _folder(folder: Path, recursive: bool) -> list[ImageItem]:
    try:
        found = folder.rglob("*") if recursive else folder.iterdir()
        paths = sorted(
            path
            for path in found
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
        paths = without_results(paths)
    except OSError as error:
        raise ImageError(f"cannot list '{folder}' ({error.strerror or error}).") from error
    if not paths:
        hint = "" if recursive else "; use --recursive (recursive=True) to search below it"
        raise ImageError(f"no pictures in folder '{folder}'{hint}.")
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    twins = {name for name, count in Counter(names).items() if count > 1}
    # a.jpg beside a.png: keep the suffix in the name, or one would overwrite the other's results
    return [
        ImageItem(name if name not in twins else f"{name}_{path.suffix[1:]}", path)
        for name, path in zip(names, paths, strict=True)
    ]


def _read_open(file: Any) -> bytes:
    """What is left of an open file."""
    try:
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the open file ({error}).") from error
    if not isinstance(data, bytes):
        raise ImageError("the open file gives text; open pictures in binary mode: open(path, 'rb').")
    if len(data) > MAX_BYTES:
        raise ImageError(f"the open file has more than {MAX_BYTES >> 20} MB.")
    return data


def _read(path: str | os.PathLike) -> bytes:
    path = Path(path).expanduser()
    if str(path).startswith(("http:/", "https:/")):
        raise ImageError(f"'{path}' is an address; download the picture first and give its path.")
    try:
        if path.is_dir():
            raise ImageError(f"'{path}' is a folder, expected a picture.")
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise ImageError(f"'{path}' does not exist.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read '{path}' ({getattr(error, 'strerror', None) or error}).") from error
    return data


def _decode(data: bytes, label: str, max_pixels: int) -> np.ndarray:
    if not data:
        raise ImageError(f"{label} is empty (0 bytes).")
    page = 0
    if is_tiff(data) and (found := largest_page(data)) is not None:
        page, tags = found
        _check_size(*size_of(tags), label, max_pixels)
        with decoding.hold(math.prod(size_of(tags)) * PIXEL_BYTES):
            numbers = stored_numbers(data, tags, label)
            if numbers is not None:
                return _from_tiff(numbers, tags, label)
    try:
        picture = _open(data)
    except UnidentifiedImageError as error:
        if data[:4] in (b"II*\0", b"MM\0*"):
            raise ImageError(f"{label} is a TIFF that cannot be read; save it as PNG or JPEG.") from error
        raise ImageError(f"{label} is not a picture that can be read (JPEG, PNG, WebP, TIFF, BMP, GIF …).") from error
    except Exception as error:  # a damaged header can fail anywhere in a decoder
        raise ImageError(f"{label} is damaged and cannot be read ({_reason(error)}).") from error
    with picture:
        return _from_pillow(picture, label, max_pixels, own=True, page=page)


def _from_tiff(numbers: np.ndarray, tags: Tags, label: str) -> np.ndarray:
    """Numbers of a TIFF as Pillow would give them, with the file's orientation and profile."""
    picture = Image.fromarray(_from_array(numbers, label, None))
    picture.info["icc_profile"] = tags.get(PROFILE)
    picture.getexif()[ORIENTATION] = tags.get(ORIENTATION, 1)
    return _pillow_to_rgb(ImageOps.exif_transpose(picture), label)


def _open(data: bytes) -> Image.Image:
    """Header only. Pillow's own size limit is one global number; ours is per call, and checked before decoding."""
    if data[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        from pi_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    with _pillow_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return open_picture(data)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_picture(data: bytes) -> Image.Image:
    """The header of an encoded picture of a known format; raises what Pillow raises."""
    Image.init()
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def _from_pillow(picture: Image.Image, label: str, max_pixels: int, own: bool = False, page: int = 0) -> np.ndarray:
    """own: the picture is nobody else's and may be changed, which saves a copy.  page: which of several."""
    _check_size(*picture.size, label, max_pixels)
    try:
        with decoding.hold(picture.width * picture.height * PIXEL_BYTES):
            picture.seek(page)
            _check_size(*picture.size, label, max_pixels)
            picture.load()
            _check_size(*picture.size, label, max_pixels)  # icons and the like learn their size while they are decoded
            if own:
                ImageOps.exif_transpose(picture, in_place=True)
            else:
                picture = ImageOps.exif_transpose(picture)
            return _pillow_to_rgb(picture, label)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{label} does not fit into memory; make it smaller.") from error
    except Exception as error:
        raise ImageError(f"{label} is truncated or damaged ({_reason(error)}).") from error


def _pillow_to_rgb(picture: Image.Image, label: str) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):  # 16- and 32-bit: convert() would clip instead of scaling
        return _from_array(np.asarray(picture), label, None)
    picture = to_srgb(picture, label)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, (BACKGROUND, BACKGROUND, BACKGROUND))
        ground.paste(picture, mask=picture)
        picture = ground
    if picture.mode == "LAB":
        signed = np.array([0, 128, 128], np.uint8)  # Pillow keeps a and b signed, OpenCV from 0 to 255
        return cv2.cvtColor(np.bitwise_xor(np.asarray(picture), signed).astype(np.uint8), cv2.COLOR_Lab2RGB)
    return np.ascontiguousarray(np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB")))


def _from_tensor(tensor: Tensor, max_pixels: int) -> np.ndarray:
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3:
        if tensor.shape[0] not in (1, 2, 3, 4):
            raise ImageError(f"a tensor image is [C, H, W] with 1, 3 or 4 channels, got {tuple(tensor.shape)}.")
        tensor = tensor.permute(1, 2, 0)
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return _from_array(tensor.detach().cpu().numpy(), "the tensor", max_pixels)


def _from_array(array: np.ndarray, label: str, max_pixels: int | None) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or array.size == 0:
        raise ImageError(f"{label} must be [H, W], [H, W, 3] or [H, W, 4] and not empty, got {array.shape}.")
    if max_pixels is not None:
        _check_size(array.shape[1], array.shape[0], label, max_pixels)
    array = _to_uint8(array, label)
    if array.shape[2] in (2, 4):
        alpha = array[..., -1:].astype(np.float32) / 255
        array = np.rint(array[..., :-1] * alpha + BACKGROUND * (1 - alpha)).astype(np.uint8)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _to_uint8(array: np.ndarray, label: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # either byte order
        return _scaled(array, 65535.0)
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
        raise ImageError(f"{label} has type {array.dtype}; expected integers or floats.")
    peak, least = float(array.max()), float(array.min())  # NaN where one of them is
    if not (np.isfinite(peak) and np.isfinite(least)):
        raise ImageError(f"{label} contains NaN or infinite values; expected [0, 1] or [0, 255].")
    if np.issubdtype(array.dtype, np.floating):
        white = 1.0 if peak <= 1 else 255.0 if peak <= 255 else peak
    else:  # wider integers hold 8- or 16-bit pictures more often than their own full range
        white = 255.0 if peak <= 255 else 65535.0 if peak <= 65535 else peak
    return _scaled(array, white)


def _scaled(array: np.ndarray, white: float) -> np.ndarray:
    """0 … `white` to 0 … 255, a few rows at a time: the temporaries are four times as large as the result."""
    scaled = np.empty(array.shape, np.uint8)
    step = max(1, BLOCK_VALUES // (array[0].size or 1))
    for start in range(0, len(array), step):
        values = array[start : start + step].astype(np.float32)
        scaled[start : start + step] = np.rint(np.clip(values / np.float32(white), 0, 1) * 255)
    return scaled


def _check_size(width: int, height: int, label: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{label} has {width} × {height} = {width * height / 1e6:.0f} million pixels, more than the limit of "
            f"{max_pixels / 1e6:.0f}; make it smaller or raise max_pixels (--max-pixels)."
        )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
