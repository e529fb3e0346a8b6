"""Colour management: any ICC profile to sRGB."""

from __future__ import annotations

import io
import logging
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms

from tokenface.images.srgb import bytes_to_linear, from_linear
from tokenface.images.tone_mapping import BT2020_TO_BT709, P3_TO_BT709, Curve, tone_mapped

logger = logging.getLogger("tokenface")

TRANSFERS: dict[int, Curve] = {16: "pq", 18: "hlg"}
PRIMARIES = {9: BT2020_TO_BT709, 12: P3_TO_BT709}
"""Numbers of ITU-T H.273, which HEIF files carry."""
CONVERTIBLE = ("L", "RGB", "RGBA", "RGBX", "CMYK", "LAB")
ADOBE_RGB = "R03"
"""EXIF's interoperability index of cameras that were set to Adobe RGB (DCF 2.0); such files have no profile."""
ADOBE_TO_BT709 = np.array([[1.398356, -0.398356, 0], [0, 1, 0], [0, -0.042929, 1.042929]], np.float32)
ADOBE_GAMMA = 563 / 256


def to_srgb(picture: Image.Image, label: str) -> Image.Image:
    """The picture in sRGB, RGB or RGBA, if it says that it is something else; else as it is.

    A profile that cannot be used is a warning, and the numbers are taken for sRGB's, as browsers do.
    """
    profile = picture.info.get("icc_profile")
    if profile:
        return _by_profile(picture, profile, label)
    if isinstance(nclx := picture.info.get("nclx_profile"), dict):
        return _by_numbers(picture, nclx)
    if picture.mode == "RGB" and _interoperability(picture) == ADOBE_RGB:
        light = (np.arange(256, dtype=np.float32) / 255) ** np.float32(ADOBE_GAMMA)
        return Image.fromarray(_linear_to_srgb(light[np.asarray(picture)], ADOBE_TO_BT709))
    return picture


def _interoperability(picture: Image.Image) -> object:
    try:
        return picture.getexif().get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # damaged EXIF data can fail anywhere in the reader; and Pillow raises where there are none
        return None


def _by_profile(picture: Image.Image, profile: bytes, label: str) -> Image.Image:
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    if picture.mode == "LA" and profile[16:20] == b"RGB ":
        picture = picture.convert("RGBA")
    if picture.mode not in CONVERTIBLE:
        return picture  # 1 bit, or 16 and 32 bits of grey
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
        opaque = picture.convert("RGB") if picture.mode in ("RGBA", "RGBX") else picture
        if opaque.mode == "L" and profile[16:20] == b"RGB ":
            opaque = opaque.convert("RGB")
        transform = ImageCms.buildTransform(source, _srgb(), opaque.mode, "RGB")
        if opaque.mode == "RGB" and _changes_nothing(transform):
            return picture
        converted = ImageCms.applyTransform(opaque, transform)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        logger.warning("%s has a colour profile that cannot be used (%s); taken for sRGB", label, reason)
        return picture
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the profile is sRGB's: names do not tell (files exist whose Display P3 is called sRGB)."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    seen = ImageCms.applyTransform(Image.fromarray(probe), transform)
    return bool(np.abs(np.asarray(seen).astype(int) - probe).max() <= 2)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _by_numbers(picture: Image.Image, nclx: dict[str, Any]) -> Image.Image:
    """HEIF's own numbers: HDR curves, and primaries that are not sRGB's."""
    curve = TRANSFERS.get(nclx.get("transfer_characteristics", 2))
    primaries = PRIMARIES.get(nclx.get("color_primaries", 2))
    if picture.mode != "RGB" or (curve is None and primaries is None):
        return picture
    pixels = np.asarray(picture)
    if curve is not None:
        matrix = np.eye(3, dtype=np.float32) if primaries is None else primaries
        return Image.fromarray(tone_mapped(pixels.astype(np.uint16) * 257, curve, matrix))
    return Image.fromarray(_linear_to_srgb(bytes_to_linear(pixels), primaries))


def _linear_to_srgb(light: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    light = np.clip(light if matrix is None else cv2.transform(light, matrix), 0, 1)
    return np.rint(255 * from_linear(light)).astype(np.uint8)
