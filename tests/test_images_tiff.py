"""TIFFs beyond eight bits and beyond one page, written by the test byte by byte."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tokenface.errors import ImageError
from tokenface.images.loading import load_image

WIDTH, HEIGHT = 40, 24


def picture() -> np.ndarray:
    """[H, W, 3] in [0, 1]: three ramps that no mix-up of planes, rows or bytes leaves alike."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return np.stack([x, y, (x + y) / 2], axis=-1)


def tiff(*pages: tuple[np.ndarray, dict]) -> bytes:
    """Pages of numbers. Options: planes, tile (side), order (< or >), packed (deflate), white_is_zero."""
    order = pages[0][1].get("order", "<")
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for array, how in pages:
        array = array if array.ndim == 3 else array[..., None]
        height, width, samples = array.shape
        stored = array.astype(array.dtype.newbyteorder(order))
        layers = [stored[..., k : k + 1] for k in range(samples)] if how.get("planes") else [stored]
        side, pieces = how.get("tile"), []
        for layer in layers:
            if side:
                padded = np.pad(layer, ((0, -height % side), (0, -width % side), (0, 0)))
                pieces += [
                    padded[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)
                ]
            else:
                pieces += [layer[y : y + 7] for y in range(0, height, 7)]
        offsets, counts = [], []
        for piece in pieces:
            data = np.ascontiguousarray(piece).tobytes()
            data = zlib.compress(data) if how.get("packed") else data
            offsets.append(len(out))
            counts.append(len(data))
            out += data
        bits, form = array.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
        tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [8 if how.get("packed") else 1]}
        tags |= {262: [2 if samples >= 3 else 0 if how.get("white_is_zero") else 1], 277: [samples]}
        tags |= {284: [2 if how.get("planes") else 1], 339: [form] * samples}
        tags |= {322: [side], 323: [side], 324: offsets, 325: counts} if side else {273: offsets, 278: [7], 279: counts}
        if samples == 4:
            tags[338] = [2]
        tags |= how.get("tags", {})
        where, entries = {}, b""
        for tag, values in tags.items():
            if len(values) > 1:
                where[tag] = len(out)
                out += struct.pack(f"{order}{len(values)}I", *values)
        for tag in sorted(tags):
            value = where.get(tag, tags[tag][0])
            entries += struct.pack(f"{order}HHII", tag, 4, len(tags[tag]), value)
        struct.pack_into(f"{order}I", out, link, len(out))
        out += struct.pack(f"{order}H", len(tags)) + entries
        link = len(out)
        out += bytes(4)
    return bytes(out)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("kind", ["u2", "u4", "f4"])
@pytest.mark.parametrize("samples", [1, 3, 4])
def test_deep_numbers_are_read_in_every_layout(samples: int, kind: str, planes: bool, tile: int | None, order: str):
    exact = np.concatenate([picture(), np.ones((HEIGHT, WIDTH, 1))], -1)[..., :samples]
    array = exact.astype(kind) if kind == "f4" else np.rint(exact * np.iinfo(kind).max).astype(kind)
    got = load_image(tiff((array, {"planes": planes, "tile": tile, "order": order})))
    wanted = np.repeat(exact, 3, -1) if samples == 1 else exact[..., :3]
    np.testing.assert_allclose(got / 255, wanted, atol=0.51 / 255)


@pytest.mark.parametrize(("kind", "samples"), [("u4", 1), ("u4", 3), ("f4", 3)])
def test_compressed_layouts_that_come_out_as_noise_are_refused(kind: str, samples: int) -> None:
    array = picture()[..., :samples]
    array = array.astype(kind) if kind == "f4" else np.rint(array * np.iinfo(kind).max).astype(kind)
    with pytest.raises(ImageError, match="TIFF"):
        load_image(tiff((array, {"planes": True, "packed": True})))


def test_zero_can_be_white() -> None:
    array = np.rint(picture()[..., 0] * 65535).astype("u2")
    got = load_image(tiff((array, {"white_is_zero": True})))
    np.testing.assert_allclose(got[..., 0] / 255, 1 - picture()[..., 0], atol=0.51 / 255)


def test_the_orientation_of_a_deep_picture_is_applied() -> None:
    array = np.rint(picture() * 65535).astype("u2")
    got = load_image(tiff((array, {"planes": True, "tags": {274: [6]}})))
    np.testing.assert_allclose(got / 255, np.rot90(picture(), -1), atol=0.51 / 255)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_the_largest_page_is_the_photo_not_its_thumbnail_or_mask(kind: str) -> None:
    full = np.rint(picture() * np.iinfo(kind).max).astype(kind)
    thumbnail = full[::4, ::4]
    mask = (np.zeros((2 * HEIGHT, 2 * WIDTH), kind), {"tags": {254: [4]}})
    got = load_image(tiff((thumbnail, {}), (full, {}), mask))
    np.testing.assert_allclose(got / 255, picture(), atol=0.51 / 255)


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: data.replace(
            struct.pack("<HHII", 257, 4, 1, HEIGHT), struct.pack("<HHII", 257, 4, 1, 20 * HEIGHT)
        ),
        lambda data: data.replace(struct.pack("<HHII", 278, 4, 1, 7), struct.pack("<HHII", 278, 4, 1, 0)),
        lambda data: data.replace(struct.pack("<HHII", 256, 4, 1, WIDTH), struct.pack("<HHII", 256, 4, 1, 10**5)),
    ],
)
def test_pieces_that_are_missing_are_one_clear_line(cut) -> None:
    array = np.rint(picture() * 65535).astype("u2")
    data = tiff((array, {"planes": True}))
    damaged = cut(data)
    assert damaged != data
    with pytest.raises(ImageError, match=r"truncated or damaged|damaged TIFF"):
        load_image(damaged)
