"""Colour profiles: what a picture says of its colours is obeyed, and sRGB comes out. Closed forms are the reference."""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
from PIL import Image

from tokenface.images.loading import load_image

D50, D65 = np.array([0.9642, 1.0, 0.8249]), np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {
    "Display P3": ([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], D65, 2.2),
    "ProPhoto": ([(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)], D50, 1.8),
    "Adobe RGB": ([(0.640, 0.330), (0.210, 0.710), (0.150, 0.060)], D65, 563 / 256),
}
SRGB = [(0.640, 0.330), (0.300, 0.600), (0.150, 0.060)]
SKIN = [(198, 134, 110), (141, 85, 66), (240, 200, 180), (90, 60, 50), (128, 128, 128)]


def to_d50(primaries: list[tuple[float, float]], white: np.ndarray) -> np.ndarray:
    """Linear RGB to XYZ of D50, as profiles hold it."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapt @ matrix


def profile(name: str) -> bytes:
    """A matrix profile (ICC.1:2001) of those primaries and a power curve."""
    primaries, white, gamma = PRIMARIES[name]

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(number(v) for v in values)

    text = b"sRGB, it says"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    matrix = to_d50(primaries, white)
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(100), b"wtpt": xyz(D50)}
    tags |= {b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    for index, letter in enumerate((b"r", b"g", b"b")):
        tags |= {letter + b"XYZ": xyz(matrix[:, index]), letter + b"TRC": curve}
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for key, data in tags.items():
        data += bytes(-len(data) % 4)
        table += key + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    header = struct.pack(">I", size) + bytes(4) + bytes.fromhex("02400000") + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(number(v) for v in D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def expected(name: str, colours: np.ndarray) -> np.ndarray:
    primaries, white, gamma = PRIMARIES[name]
    light = (colours / 255) ** gamma @ (np.linalg.inv(to_d50(SRGB, D65)) @ to_d50(primaries, white)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["Display P3", "ProPhoto"])
def test_colours_of_a_profile_become_srgb_whatever_it_is_called(name: str, kind: str) -> None:
    colours = np.array([SKIN], np.uint8)
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(colours).save(buffer, kind, icc_profile=profile(name), **options)
    got = load_image(buffer.getvalue()).astype(float)
    wanted = expected(name, colours)
    assert np.abs(wanted - colours).max() > 8  # it is not the same without
    np.testing.assert_allclose(got, wanted, atol=2)


def test_transparency_survives_a_profile() -> None:
    colours = np.array([[(*SKIN[0], 255), (*SKIN[0], 0)]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG", icc_profile=profile("Display P3"))
    got = load_image(buffer.getvalue())
    np.testing.assert_allclose(got[0, 0], expected("Display P3", np.array(SKIN[0])), atol=2)
    assert (got[0, 1] == 127).all()


def test_cameras_set_to_adobe_rgb_say_so_in_exif_alone() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 65535
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    buffer = io.BytesIO()
    colours = np.repeat(np.repeat(np.array([SKIN], np.uint8), 16, 0), 16, 1)
    Image.fromarray(colours).save(buffer, "JPEG", quality=100, subsampling=0, exif=exif)
    got = load_image(buffer.getvalue()).astype(float)
    np.testing.assert_allclose(got, expected("Adobe RGB", colours), atol=4)


@pytest.mark.parametrize("damaged", [b"no profile", profile("Display P3")[:200]])
def test_a_damaged_profile_is_a_warning(damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    colours = np.array([SKIN], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "PNG", icc_profile=damaged)
    with caplog.at_level(logging.WARNING, logger="tokenface"):
        np.testing.assert_array_equal(load_image(buffer.getvalue()), colours)
    assert "colour profile" in caplog.text


def test_a_profile_of_srgb_leaves_every_number_alone() -> None:
    from PIL import ImageCms

    colours = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(colours).save(buffer, "PNG", icc_profile=own)
    np.testing.assert_array_equal(load_image(buffer.getvalue()), colours)


def test_profiles_of_grey_pictures_are_obeyed_or_harmless() -> None:
    grey = np.array([[10, 100, 200]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", icc_profile=profile("Display P3"))
    got = load_image(buffer.getvalue()).astype(float)
    np.testing.assert_allclose(got, expected("Display P3", np.repeat(grey[..., None], 3, 2)), atol=2)
