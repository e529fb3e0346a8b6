"""Clips of pictures encoded by the standards' own formulas come back as the sRGB they were made from."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra 'video'")

from tokenface.data.readers.video import read_clip  # noqa: E402
from tokenface.formats.mp4 import encode_piece, join_pieces  # noqa: E402
from tokenface.video.clip import Clip  # noqa: E402

BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA = np.array([0.2627, 0.6780, 0.0593])
SKIN = np.array([(178, 114, 90), (120, 70, 50), (60, 40, 30), (150, 150, 150), (20, 90, 40), (40, 40, 160)], float)


def display_light(srgb: np.ndarray) -> np.ndarray:
    """cd/m² in BT.2020's primaries, white at 203."""
    level = srgb / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return 203 * light @ BT709_TO_BT2020.T


def pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """The inverse of the system gamma, then the curve of the camera."""
    light = light / 1000
    scene = light * (light @ LUMA)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def write_hdr(path: Path, signal: np.ndarray, transfer: int, full: bool) -> Path:
    """[H, W, 3] in [0, 1] of BT.2020 as a lossless clip."""
    y = signal @ LUMA
    u, v = (signal[..., 2] - y) / 1.8814, (signal[..., 0] - y) / 1.4746
    scales = (65535, 65535, 0) if full else (219 * 256, 224 * 256, 4096)
    planes = np.stack([y * scales[0] + scales[2], u * scales[1] + 32768, v * scales[1] + 32768], axis=-1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *signal.shape[:2], "yuv444p16le"
        facts = stream.codec_context
        facts.time_base = Fraction(1, 25)
        facts.color_trc, facts.color_primaries, facts.colorspace, facts.color_range = transfer, 9, 9, 2 if full else 1
        array = np.clip(np.rint(planes), 0, 65535).astype(np.uint16)
        frame = av.VideoFrame.from_ndarray(array, format="yuv444p16le")
        frame.color_range, frame.colorspace = 2 if full else 1, 9
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("transfer", "curve"), [(16, pq), (18, hlg)])
def test_hdr_clips_show_the_colours_that_they_were_made_of(tmp_path: Path, transfer: int, curve, full: bool) -> None:
    colours = np.repeat(np.repeat(SKIN.reshape(2, 3, 3), 16, 0), 16, 1)
    clip = Clip(write_hdr(tmp_path / "hdr.mkv", curve(display_light(colours)), transfer, full))
    got = next(clip.frames()).image.astype(float)
    np.testing.assert_allclose(got, colours, atol=3)


@pytest.mark.parametrize(("transfer", "curve"), [(16, pq), (18, hlg)])
def test_highlights_keep_their_order_and_reach_white(tmp_path: Path, transfer: int, curve) -> None:
    nits = np.repeat(np.geomspace(20, 1000, 32)[None, :, None], 16, 0) * np.ones(3)
    clip = Clip(write_hdr(tmp_path / "ramp.mkv", curve(nits), transfer, False))
    row = next(clip.frames()).image[8, :, 0].astype(int)
    assert (np.diff(row) > 0).all()  # nothing is clipped to one flat patch
    assert row[-1] >= 253


BT709, BT601 = (0.2126, 0.0722), (0.299, 0.114)


def write_untagged(path: Path, height: int, width: int, matrix: tuple[float, float], codec: str) -> np.ndarray:
    """A clip of patches that says nothing of its matrix. Returns: [H, W, 3] the colours."""
    red, blue = matrix
    colours = np.repeat(np.repeat(SKIN.reshape(2, 3, 3), -(-height // 2), 0)[:height], -(-width // 3), 1)[:, :width]
    y = colours @ np.array([red, 1 - red - blue, blue])
    u, v = (colours[..., 2] - y) / (2 * (1 - blue)), (colours[..., 0] - y) / (2 * (1 - red))
    full = codec == "mjpeg"
    planes = (y, 128 + u, 128 + v) if full else (16 + y * 219 / 255, 128 + u * 224 / 255, 128 + v * 224 / 255)
    array = np.clip(np.rint(np.stack(planes)), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuvj444p" if full else "yuv444p"
        stream.codec_context.qmin = stream.codec_context.qmax = 1
        frame = av.VideoFrame.from_ndarray(array, format=stream.pix_fmt)
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return colours


@pytest.mark.parametrize(
    ("height", "width", "matrix", "codec"),
    [
        (720, 960, BT709, "ffv1"),
        (1080, 1920, BT709, "ffv1"),
        (1280, 720, BT709, "ffv1"),
        (480, 640, BT601, "ffv1"),
        (576, 720, BT601, "ffv1"),
        (720, 1280, BT601, "mjpeg"),
    ],
)
def test_clips_that_name_no_matrix_have_their_sizes(
    tmp_path: Path, height: int, width: int, matrix: tuple[float, float], codec: str
) -> None:
    colours = write_untagged(tmp_path / "untagged.mkv", height, width, matrix, codec)
    with av.open(str(tmp_path / "untagged.mkv")) as container:
        assert next(container.decode(video=0)).colorspace in ((2, 5) if codec == "mjpeg" else (2,))
    got = next(Clip(tmp_path / "untagged.mkv").frames()).image.astype(float)
    taught = read_clip(tmp_path / "untagged.mkv")[0].astype(float)  # by OpenCV, for training
    inside = [(r, c) for r in (height // 4, 3 * height // 4) for c in (width // 6, width // 2, 5 * width // 6)]
    for row, column in inside:
        np.testing.assert_allclose(got[row, column], colours[row, column], atol=4)
        np.testing.assert_allclose(taught[row, column], colours[row, column], atol=7)


@pytest.mark.parametrize(("height", "width", "number"), [(720, 1280, 1), (240, 320, 5)])
def test_clips_of_our_own_say_their_matrix(tmp_path: Path, height: int, width: int, number: int) -> None:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = SKIN[0].astype(np.uint8)
    piece = encode_piece(tmp_path / "piece.nut", ((i / 10, picture) for i in range(3)), 10.0)
    film = join_pieces(tmp_path / "film.mp4", [piece], None, 0.0, None)
    with av.open(str(film)) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == number
    np.testing.assert_allclose(next(Clip(film).frames()).image[height // 2, width // 2], SKIN[0], atol=4)
