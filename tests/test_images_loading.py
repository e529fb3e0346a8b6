"""Every kind of picture loads to the same upright RGB uint8 array; everything else is one clear line."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tokenface.errors import ImageError
from tokenface.images.loading import BACKGROUND, ImageItem, collect_images, load_image


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_pil_array_and_tensor_agree(rgb, tmp_path):
    path = tmp_path / "a b ü.png"
    Image.fromarray(rgb).save(path)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        Image.fromarray(rgb),
        rgb,
        rgb.astype(np.float64) / 255,
        rgb.astype(np.float32),
        rgb.astype(np.uint16) * 257,
        tensor,
        tensor[None].float() / 255,
    ):
        out = load_image(source)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        np.testing.assert_array_equal(out, rgb)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, kind):
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:, :32, 0] = 200
    upright[:16, :, 1] = 200
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.transpose(a, (1, 0, 2)),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.transpose(np.rot90(a, 2), (1, 0, 2)),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found = load_image(encoded(stored, kind, exif=exif, **options))
    np.testing.assert_allclose(found.astype(int), upright, atol=40 if kind == "JPEG" else 0)


def test_grey_and_bilevel_and_palette(rgb):
    grey = rgb[..., 0]
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, 2))
    bilevel = load_image(encoded(Image.fromarray(grey > 127), "PNG"))
    assert set(np.unique(bilevel)) == {0, 255}
    palette = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(load_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_shows_grey(rgb):
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[:, :8] = 255
    picture = Image.fromarray(np.dstack([rgb, alpha]))
    for source in (picture, encoded(picture, "PNG"), encoded(picture, "WEBP", lossless=True), np.dstack([rgb, alpha])):
        out = load_image(source)
        np.testing.assert_array_equal(out[:, :8], rgb[:, :8])
        np.testing.assert_array_equal(out[:, 8:], BACKGROUND)
    grey_alpha = Image.fromarray(np.dstack([rgb[..., 0], alpha]), "LA")
    assert (load_image(encoded(grey_alpha, "PNG"))[:, 8:] == BACKGROUND).all()
    palette = Image.fromarray(rgb).quantize(8)
    palette.info["transparency"] = 0
    out = load_image(encoded(palette, "PNG", transparency=0))
    assert (out[np.asarray(palette) == 0] == BACKGROUND).all()


def test_sixteen_and_thirty_two_bit_pictures_are_scaled_not_clipped(rgb, tmp_path):
    grey = rgb[..., 0]
    wide = grey.astype(np.uint16) * 257
    expected = np.repeat(grey[..., None], 3, 2)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(wide), "PNG")), expected)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(wide), "TIFF")), expected)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(wide.astype(np.int32)), "TIFF")), expected)
    floats = Image.fromarray(grey.astype(np.float32) / 255)
    np.testing.assert_array_equal(load_image(encoded(floats, "TIFF")), expected)
    path = tmp_path / "wide.tiff"
    cv2.imwrite(str(path), (rgb.astype(np.uint16) * 257)[..., ::-1])
    np.testing.assert_array_equal(load_image(path), rgb)
    cv2.imwrite(str(tmp_path / "wide.png"), (rgb.astype(np.uint16) * 257)[..., ::-1])
    assert np.abs(load_image(tmp_path / "wide.png").astype(int) - rgb).max() <= 1


def test_cmyk_jpeg_keeps_its_colours():
    field = Image.new("RGB", (32, 32), (200, 40, 90))
    out = load_image(encoded(field.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(out.astype(int) - [200, 40, 90]).max() < 12


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(load_image(data)[4, 4].astype(int) - [255, 0, 0]).max() < 6


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(ImageError, match="more than the limit of 120"):
        load_image(bomb(60_000, 60_000))


def test_the_pixel_limit_can_be_moved_both_ways(rgb):
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(rgb, max_pixels=100)
    large = Image.new("L", (12_000, 8_000))  # above the point where Pillow itself would warn
    assert load_image(encoded(large, "PNG"), max_pixels=10**9).shape == (8000, 12000, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.jpg", "does not exist"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: written(folder / "zero.jpg", b""), "empty"),
        (lambda folder: written(folder / "text.jpg", b"hello, I am not a picture" * 9), "not a picture"),
        (lambda folder: written(folder / "a.heic", b"\0\0\0\x18ftypheic" + b"\0" * 64), "a.heic' is not a picture"),
        (lambda folder: "https://example.org/a.jpg", "download"),
        (lambda folder: "nul\0byte.png", "cannot read"),
    ],
)
def test_bad_files_are_one_clear_line(make, message, tmp_path):
    with pytest.raises(ImageError, match=message) as caught:
        load_image(make(tmp_path))
    assert "\n" not in str(caught.value)


def written(path, data):
    path.write_bytes(data)
    return path


def test_truncated_files_of_every_format_are_refused(rgb):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(picture, kind)
        for share in (0.1, 0.5, 0.9):
            with pytest.raises(ImageError) as caught:
                load_image(data[: int(len(data) * share)])
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((0, 5, 3)),
        np.zeros((4, 4, 7)),
        np.zeros(9),
        np.full((4, 4, 3), np.nan),
        np.zeros((4, 4, 3), complex),
        torch.zeros(7, 4, 4),
        torch.zeros(2, 3, 4, 4),
        42,
    ],
)
def test_impossible_arrays_are_refused(source):
    with pytest.raises(ImageError):
        load_image(source)


def test_folders_are_listed_sorted_without_other_files(rgb, tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "twin.jpg", "twin.png"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            Image.fromarray(rgb).save(tmp_path / name)
    (tmp_path / "sub").mkdir()
    Image.fromarray(rgb).save(tmp_path / "sub" / "c.webp")
    assert [item.name for item in collect_images(tmp_path)] == ["a", "b", "twin_jpg", "twin_png"]
    everything = collect_images(tmp_path, recursive=True)
    assert [item.name for item in everything] == ["a", "b", "sub/c", "twin_jpg", "twin_png"]
    assert everything[2].load().shape == rgb.shape


def test_lists_and_batches_become_items(rgb, tmp_path):
    path = tmp_path / "p.png"
    Image.fromarray(rgb).save(path)
    items = collect_images([path, rgb, "missing.jpg", tmp_path])
    assert [item.name for item in items] == ["p", "image_0001", "missing", "p"]
    with pytest.raises(ImageError, match="does not exist"):
        items[2].load()
    batch = torch.rand(3, 3, 8, 9)
    assert [item.load().shape for item in collect_images(batch)] == [(8, 9, 3)] * 3
    assert collect_images(rgb)[0].load().shape == rgb.shape
    assert collect_images(ImageItem("x", path))[0].name == "x"


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="no pictures in folder"):
        collect_images(tmp_path)
    with pytest.raises(ImageError, match="empty list"):
        collect_images([])
    with pytest.raises(ImageError, match="expected a path"):
        collect_images(3.5)


def test_open_files_are_read(rgb, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    np.testing.assert_array_equal(load_image(io.BytesIO(path.read_bytes())), rgb)
    with path.open("rb") as file:
        (item,) = collect_images(file)
    assert item.name == "a"
    np.testing.assert_array_equal(item.load(), rgb)  # after the file is closed
    with path.open("rb") as file:
        assert [item.name for item in collect_images([file, io.BytesIO(b"")])] == ["a", "image_0001"]
    with pytest.raises(ImageError, match="binary mode"):
        load_image(io.StringIO("text"))


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "JPEG"), ("tga", "TGA"), ("jpe", "JPEG")])
def test_less_usual_suffixes_are_found_in_folders(suffix, kind, tmp_path):
    Image.new("RGB", (8, 8), (10, 200, 30)).save(tmp_path / f"a.{suffix}", kind)
    (item,) = collect_images(tmp_path)
    assert np.abs(item.load().astype(int) - (10, 200, 30)).max() < 5


def test_the_first_picture_of_a_stereo_file_is_the_photo(tmp_path):
    first, second = Image.new("RGB", (16, 16), (200, 10, 10)), Image.new("RGB", (16, 16), (10, 10, 200))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    (item,) = collect_images(tmp_path)
    assert item.load()[8, 8, 0] > 150


def test_addresses_are_never_opened_here():
    with pytest.raises(ImageError, match="is an address"):
        load_image("https://127.0.0.1:9/a.jpg")
