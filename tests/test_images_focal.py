"""Focal lengths from EXIF data and from people, against hand-worked cameras."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import ExifTags, Image

from tokenface.errors import ImageError
from tokenface.images.focal import equivalent_focal, exif_focal, parse_focal

B = ExifTags.Base


def photo(width: int, height: int, **tags) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({getattr(B, name): value for name, value in tags.items()})
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_a_full_frame_camera_has_its_focal_length_over_36_mm():
    assert equivalent_focal(36, 3600, 2400) == pytest.approx(3600)
    assert equivalent_focal(50, 2400, 3600) == pytest.approx(5000)


def test_exif_equivalent_focal_length_is_along_the_diagonal():
    """A phone of 26 mm with a 4:3 picture sees 2·atan(43.27/52) along its diagonal."""
    found = exif_focal(photo(4032, 3024, FocalLengthIn35mmFilm=26), 4032, 3024)
    view = 2 * math.atan(math.hypot(4032, 3024) / 2 / found.pixels)
    assert math.degrees(view) == pytest.approx(2 * math.degrees(math.atan(43.267 / 52)), abs=0.01)
    assert "26 mm" in found.origin
    small = exif_focal(photo(400, 300, FocalLengthIn35mmFilm=26), 400, 300)  # reduced: the same angle
    assert small.pixels == pytest.approx(found.pixels * 400 / 4032)


def test_exif_sensor_resolution_with_the_real_focal_length():
    """Canon's way: 50 mm, 5184 pixels on 22.3 mm, in inches; the picture was reduced to a third."""
    tags = {"FocalLength": 50.0, "FocalPlaneXResolution": 5184 / (22.3 / 25.4), "FocalPlaneResolutionUnit": 2}
    data = photo(1728, 1152, **tags, ExifImageWidth=5184, ExifImageHeight=3456)
    assert exif_focal(data, 1728, 1152).pixels == pytest.approx(50 / 22.3 * 1728, rel=1e-3)
    data = photo(1728, 1152, **{**tags, "FocalPlaneXResolution": 5184 / 2.23, "FocalPlaneResolutionUnit": 3})
    assert exif_focal(data, 1728, 1152).pixels == pytest.approx(50 / 22.3 * 5184, rel=1e-3)  # size not stored


def test_a_turned_photo_keeps_its_focal_length():
    data = photo(400, 300, FocalLengthIn35mmFilm=28, ExifImageWidth=4000, ExifImageHeight=3000)
    assert exif_focal(data, 300, 400).pixels == pytest.approx(exif_focal(data, 400, 300).pixels)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLengthIn35mmFilm": 2},  # a view of 170°
        {"FocalLength": 50.0},  # of what sensor?
        {"FocalLength": 50.0, "FocalPlaneXResolution": 0.0},
        {"FocalLengthIn35mmFilm": 26, "ExifImageWidth": 4000, "ExifImageHeight": 1000},  # cropped since
    ],
)
def test_nothing_is_believed_that_cannot_be(tags):
    assert exif_focal(photo(400, 300, **tags), 400, 300) is None


def test_pictures_without_exif_have_no_focal_length(tmp_path):
    assert exif_focal(np.zeros((4, 4, 3), np.uint8), 4, 4) is None
    assert exif_focal(b"not a picture", 4, 4) is None
    assert exif_focal(tmp_path / "missing.jpg", 4, 4) is None
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(400, 300, FocalLengthIn35mmFilm=26))
    assert exif_focal(path, 400, 300).pixels == pytest.approx(equivalent_focal(26, 400, 300))
    with Image.open(path) as picture:
        assert exif_focal(picture, 400, 300).pixels == pytest.approx(equivalent_focal(26, 400, 300))


def test_people_write_millimetres_or_pixels():
    assert parse_focal("36mm", 3600, 2400).pixels == pytest.approx(3600)
    assert parse_focal(" 3000 px", 10, 10).pixels == parse_focal("3000", 10, 10).pixels == 3000
    for wrong in ("wide", "mm", "-3", "0", "nan", "inf"):
        with pytest.raises(ImageError):
            parse_focal(wrong, 400, 300)
