"""A real photo refined by the command that users type: fits better, stays where it was, has a person's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image
from test_reconstruct_photo import needs_detector, needs_weights

from tokenface import cli
from tokenface.formats.parameters import read_parameters
from tokenface.head.registry import load_head
from tokenface.inference.face import Face
from tokenface.refinement.size import pupil_distance


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A portrait that says it was taken with an 85-mm lens."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 85
    path = tmp_path / "portrait.jpg"
    Image.fromarray(skimage.data.astronaut()).save(path, quality=95, exif=exif)
    return path


@needs_detector
@needs_weights
def test_a_refined_portrait_fits_better_and_has_a_persons_size(portrait: Path, tmp_path: Path) -> None:
    faces = {}
    for name, extra in (("plain", []), ("refined", ["--refine", "--size", "iris"])):
        arguments = ["reconstruct", str(portrait), "-o", str(tmp_path / name), "-f", "json", "--no-overlay", *extra]
        assert cli.run(arguments) == 0
        document = read_parameters(tmp_path / name / "portrait" / "parameters.json")
        faces[name] = Face.from_dict(document["faces"][0], document, load_head(document["head"]["name"]))
    plain, refined = faces["plain"], faces["refined"]
    record = refined.refined
    assert record.photometric.after < 0.85 * record.photometric.before
    assert 0 < record.shape_moved < 0.6
    width = np.ptp(plain.landmarks[:, 0])
    assert np.linalg.norm(refined.landmarks - plain.landmarks, axis=1).mean() < 0.05 * width
    assert "85 mm" in record.focal
    assert 1.0 < record.distance < 2.5  # metres: a head of 0.15 m fills a fifth of a 512-pixel picture
    pupils = record.size * pupil_distance(refined.head, refined.parameters.shape)
    assert 0.054 < pupils < 0.072
