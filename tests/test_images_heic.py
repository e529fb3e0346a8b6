"""HEIC, the format of iPhones' photos: read on a plain install, upright, in the right colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_images_colour import D65, PRIMARIES, SRGB, expected, profile, to_d50

from tokenface.errors import ImageError
from tokenface.images.loading import collect_images, load_image

av = pytest.importorskip("av", reason="the test's encoder comes with the extra 'video'")
if "libx265" not in av.codecs_available:
    pytest.skip("this FFmpeg has no H.265 encoder", allow_module_level=True)

from heic_files import heic  # noqa: E402


def corners() -> np.ndarray:
    """[64, 96, 3]: four colours that tell all turns apart."""
    image = np.full((64, 96, 3), 60, np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (200, 60, 50), (60, 180, 70), (70, 60, 190)
    return image


@pytest.mark.parametrize("turns", range(4))
def test_a_heic_photo_is_read_upright(turns: int, tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic(corners(), turns))
    (item,) = collect_images(tmp_path)
    got = item.load().astype(int)
    wanted = np.rot90(corners(), turns)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).mean() < 4


def test_the_profile_of_a_heic_photo_is_obeyed() -> None:
    got = load_image(heic(corners(), profile=profile("Display P3"))).astype(float)
    assert np.abs(got - expected("Display P3", corners().astype(float))).mean() < 4


def test_the_size_is_known_before_a_heic_photo_is_decoded() -> None:
    with pytest.raises(ImageError, match="96 × 64"):
        load_image(heic(corners()), max_pixels=1000)


def test_a_cut_off_heic_photo_is_one_clear_line() -> None:
    with pytest.raises(ImageError, match=r"damaged|not a picture"):
        load_image(heic(corners())[:-200])


@pytest.mark.parametrize("transfer", [13, 18])
def test_numbers_in_place_of_a_profile_are_obeyed(transfer: int) -> None:
    """Display P3's primaries with sRGB's curve, and HLG of BT.2020: no profile, three numbers."""
    from test_video_colour import display_light, hlg

    if transfer == 13:
        matrix = np.linalg.inv(to_d50(SRGB, D65)) @ to_d50(*PRIMARIES["Display P3"][:2])
        level = corners() / 255
        light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) @ matrix.T
        light = np.clip(light, 0, 1)
        wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        data = heic(corners(), nclx=(12, 13, 6))
    else:
        wanted = np.minimum(corners(), 180).astype(float)  # below the roll-off
        signal = np.rint(255 * hlg(display_light(wanted))).astype(np.uint8)
        data = heic(signal, nclx=(9, 18, 6))
    got = load_image(data).astype(float)
    assert np.abs(got - wanted).mean() < 5
