"""Focal length in pixels, from EXIF data or as given by a person."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from tokenface.core.files import read_regular
from tokenface.errors import ImageError
from tokenface.images.loading import MAX_BYTES, is_tensor, open_picture

FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
"""Millimetres. A "35-mm equivalent" focal length has the same angle of view along the diagonal (CIPA DCG-001)."""
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""FocalPlaneResolutionUnit: inch, centimetre, millimetre, micrometre."""
PLAUSIBLE = (0.3, 40.0)
"""Focal length over the photo's longer side: from a fish-eye to a long tele lens. What lies outside is an error."""


@dataclass(frozen=True)
class Focal:
    """pixels: of the photo at its full size.  origin: where it is known from, for files and people."""

    pixels: float
    origin: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pixels) and self.pixels > 0):
            raise ImageError(f"a focal length is a positive number of pixels, got {self.pixels}")


def equivalent_focal(millimetres: float, width: int, height: int) -> float:
    """A 35-mm equivalent focal length in pixels of an uncropped photo of that size."""
    return millimetres * math.hypot(width, height) / FULL_FRAME_DIAGONAL


def parse_focal(text: str, width: int, height: int) -> Focal:
    """Focal length as a person writes it: `26mm` (35-mm equivalent), `3000` or `3000px` (pixels of the photo).

    Raises:
        ImageError: something else, or not a positive number.
    """
    word = text.strip().lower().replace(" ", "")
    try:
        if word.endswith("mm"):
            return Focal(equivalent_focal(float(word[:-2]), width, height), f"given: {word} (35-mm equivalent)")
        return Focal(float(word.removesuffix("px")), "given in pixels")
    except ValueError as error:
        raise ImageError(
            f"'{text}' is no focal length; write 26mm (35-mm equivalent), 3000px (pixels of the photo), exif or none"
        ) from error


def exif_focal(source: Any, width: int, height: int) -> Focal | None:
    """The focal length that a photo's EXIF data tell; None where they do not, or tell something impossible.

    FocalLengthIn35mmFilm comes first; then FocalLength with the sensor's FocalPlaneXResolution. Photos that were
    cropped afterwards keep their old data: where the stored size has another aspect ratio than the photo, nothing is
    believed.

    Args:
        source: a path, encoded bytes or a PIL image; arrays have no EXIF data.
        width, height: of the photo, upright, pixels.
    """
    tags = _tags(source)
    if not tags:
        return None
    stored = sorted(
        _number(tags.get(tag)) or 0 for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
    )
    sides = sorted((width, height))
    if all(stored) and abs(math.log(stored[1] / stored[0]) - math.log(sides[1] / sides[0])) > 0.03:
        return None
    found = _equivalent(tags, width, height) or _focal_plane(tags, sides[1], stored[1])
    if found is None or not PLAUSIBLE[0] <= found.pixels / sides[1] <= PLAUSIBLE[1]:
        return None
    return found


def _equivalent(tags: dict[int, Any], width: int, height: int) -> Focal | None:
    millimetres = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if not millimetres:  # 0 means unknown
        return None
    return Focal(equivalent_focal(millimetres, width, height), f"EXIF: {millimetres:g} mm (35-mm equivalent)")


def _focal_plane(tags: dict[int, Any], longer: int, stored_longer: float) -> Focal | None:
    millimetres = _number(tags.get(ExifTags.Base.FocalLength))
    resolution = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit = UNIT_MM.get(int(_number(tags.get(ExifTags.Base.FocalPlaneResolutionUnit)) or 2))
    if not millimetres or not resolution or unit is None:
        return None
    on_sensor = millimetres * resolution / unit
    zoom = _number(tags.get(ExifTags.Base.DigitalZoomRatio)) or 1.0
    pixels = on_sensor * zoom * (longer / stored_longer if stored_longer else 1.0)
    if not pixels > 0:
        return None
    return Focal(pixels, f"EXIF: {millimetres:g} mm, {resolution / unit:.5g} pixels/mm on the sensor")


def _tags(source: Any) -> dict[int, Any]:
    """The EXIF directory of a picture, empty where there is none or it is damaged."""
    if isinstance(source, np.ndarray) or is_tensor(source):
        return {}
    try:
        if isinstance(source, Image.Image):
            return dict(source.getexif().get_ifd(ExifTags.IFD.Exif))
        data = source if isinstance(source, bytes) else read_regular(Path(os.fspath(source)).expanduser(), MAX_BYTES)
        with open_picture(data) as picture:
            return dict(picture.getexif().get_ifd(ExifTags.IFD.Exif))
    except Exception:  # damaged EXIF data can fail anywhere in the reader, and say no more than none
        return {}


def _number(value: Any) -> float | None:
    """A rational, an integer or what a damaged file holds instead."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
