"""Refined faces as users get them: from Python, from the command line, in files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
from PIL import ExifTags, Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data
from typer.testing import CliRunner

import tokenface
from tokenface.cli.app import app
from tokenface.errors import ImageError
from tokenface.formats.parameters import read_parameters
from tokenface.head.model import HeadModel
from tokenface.images.iris import Iris
from tokenface.images.loading import ImageItem
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document
from tokenface.inference.refinement import RefineOptions
from tokenface.refinement.size import pupil_distance, size_from_irises

BOX = [[60.0, 40.0, 100.0, 80.0]]
QUICK = RefineOptions(steps=6)


@pytest.fixture(scope="module")
def model():
    return stand_in_model(HeadModel(toy_head_data()))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photo_with_marks((70, 50, 20), size=(120, 160))


@pytest.fixture(scope="module")
def face(model, photo) -> Face:
    return model.reconstruct(photo, boxes=BOX)[0]


def test_refining_brings_the_rendering_nearer_to_the_photo(model, photo, face):
    refined = model.refine(face, RefineOptions(steps=25), photos=[photo])[0]
    change = refined.refined.photometric
    assert change.after < 0.9 * change.before
    assert refined.refined.seconds > 0
    assert face.refined is None  # the first answer is left alone


def test_given_points_are_followed_to_the_pixel(model, photo, face):
    true = replace(face, parameters=face.parameters.replace(shape=face.parameters.shape.flip(0) * 2))
    points = true.landmarks468
    options = RefineOptions(steps=0, views=1, point_deviation=0.02)
    refined = model.refine(face, options, photos=[photo], points=[points])[0]
    assert refined.refined.points.after < 0.1 * refined.refined.points.before  # of those that can be seen
    assert refined.refined.shape_moved > 0.1


def test_components_that_are_not_named_stay(model, photo, face):
    refined = model.refine(face, replace(QUICK, components=("light", "texture")), photos=[photo])[0]
    for name in ("shape", "expression", "jaw"):
        assert (getattr(refined.parameters, name) == getattr(face.parameters, name)).all()
    np.testing.assert_allclose(refined.camera.vector, face.camera.vector, atol=1e-6)
    assert not (refined.parameters.light == face.parameters.light).all()


def test_photos_of_one_person_share_shape_and_albedo(model, photo):
    other = photo_with_marks((40, 30, 26), size=(120, 160))
    faces = model.reconstruct([photo, other], boxes=[BOX, BOX], same_person=True, refine=QUICK)
    first, second = (face.parameters for face in faces)
    assert (first.shape == second.shape).all()
    assert (first.texture == second.texture).all()
    assert not (first.camera == second.camera).all()
    assert faces[0].refined.photos == 2


def test_a_known_focal_length_solves_the_distance(model, photo, face):
    options = replace(QUICK, focal="300px")
    refined = model.refine(face, options, photos=[photo])[0]
    lens = refined.camera.lens
    np.testing.assert_allclose(lens.K, [[300, 0, 80], [0, 300, 60], [0, 0, 1]])
    assert refined.refined.distance == pytest.approx((lens.R @ refined.vertices.mean(0) + lens.t)[2], rel=0.2)
    np.testing.assert_allclose(refined.landmarks, lens.project(refined.landmarks3d), atol=1e-9)
    # the network's own points are orthographic: they may not bend the shape of a perspective head
    averaged = model.refine(face, RefineOptions(steps=0), photos=[photo])[0]
    assert (refined.parameters.shape == averaged.parameters.shape).all()


def test_the_focal_length_of_the_photos_exif_data_is_used(model, photo, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 28
    path = tmp_path / "selfie.jpg"
    Image.fromarray(photo).save(path, exif=exif, quality=95)
    refined = model.reconstruct(path, boxes=BOX, refine=QUICK)[0]
    assert refined.camera.lens.K[0, 0] == pytest.approx(28 / 43.2666 * 200, rel=1e-4)
    assert "28 mm" in refined.refined.focal
    without = model.reconstruct(path, boxes=BOX, refine=replace(QUICK, focal="none"))[0]
    assert without.camera.lens is None


@pytest.mark.parametrize("focal", ["none", "300px"])
def test_the_distance_of_the_pupils_sets_the_size_and_leaves_the_picture(model, photo, face, focal):
    options = replace(QUICK, focal=focal)
    plain, sized = (model.refine(face, o, photos=[photo])[0] for o in (options, replace(options, ipd=70.0)))
    factor = 0.070 / pupil_distance(model.head, plain.parameters.shape)
    assert sized.size == pytest.approx(factor)
    np.testing.assert_allclose(sized.neutral_vertices, factor * plain.neutral_vertices, rtol=1e-5)
    np.testing.assert_allclose(sized.landmarks, plain.landmarks, atol=1e-3)
    np.testing.assert_allclose(sized.rig().posed(), sized.vertices, atol=2e-5)
    again, twice = (model.refine(one, options, photos=[photo])[0] for one in (sized, plain))
    np.testing.assert_allclose(again.landmarks, twice.landmarks, atol=1e-3)  # a head of 70 mm is no other start
    assert again.size == 1
    if focal != "none":
        assert sized.refined.distance == pytest.approx(factor * plain.refined.distance)


def test_an_iris_of_known_pixels_sets_the_size(model, face):
    """At 1000 pixels a metre an iris of 11.7 mm has 11.7 pixels; one of 13 pixels is nearer, so the head is smaller."""
    vector = face.camera.vector.copy()
    vector[0] = 1000 * 2 / face.crop.size
    camera = replace(face.camera, vector=vector)
    eyes = np.zeros((2, 3))
    for pixels in (11.7, 13.0):
        found = size_from_irises(camera, eyes, (Iris(np.zeros(2), pixels), Iris(np.zeros(2), 0.8 * pixels)))
        assert found == pytest.approx(11.7 / pixels)
    with pytest.raises(ImageError, match="--ipd"):
        size_from_irises(camera, eyes, (Iris(np.zeros(2), 3.0), Iris(np.zeros(2), 3.0)))
    with pytest.raises(ImageError, match="cannot be"):
        size_from_irises(camera, eyes, (Iris(np.zeros(2), 40.0), Iris(np.zeros(2), 40.0)))


def test_files_carry_the_refined_answer_its_camera_and_its_units(model, photo, face, tmp_path):
    refined = model.refine(face, replace(QUICK, focal="300px", ipd=66.0), photos=[photo])[0]
    refined.save(tmp_path / "face.json")
    document = read_parameters(tmp_path / "face.json")
    again = Face.from_dict(document["faces"][0], document, model.head)
    np.testing.assert_allclose(again.landmarks, refined.landmarks, atol=1e-2)
    np.testing.assert_allclose(again.vertices, refined.vertices, atol=1e-6)
    assert again.refined == refined.refined
    entry = document["faces"][0]
    assert entry["camera"]["opencv"]["focal_given"] is True
    assert entry["refined"]["size_origin"] == "ipd"

    refined.save(tmp_path / "face.glb")
    extras = pygltflib.GLTF2().load(tmp_path / "face.glb").asset.extras
    assert extras["units"] == "metres"
    np.testing.assert_allclose(extras["camera"]["K"], refined.camera.lens.K)
    assert extras["size"] == pytest.approx(refined.size, abs=1e-4)


def test_documents_of_before_are_still_read(model, photo, face):
    document = json.loads(json.dumps(photo_document([face], "x")))
    assert "refined" not in document["faces"][0]
    again = Face.from_dict(document["faces"][0], document, model.head)
    assert again.refined is None
    assert again.camera.lens is None


def test_a_photo_that_is_gone_is_an_error_of_one_line(model, face):
    with pytest.raises(ImageError):
        model.refine(replace(face, item=ImageItem("gone", "gone.jpg")))
    with pytest.raises(ImageError):
        model.refine([], same_person=True)


def test_options_without_refine_are_refused_before_any_work(tmp_path):
    for arguments, said in (
        (["--focal", "26mm"], "--refine"),
        (["--refine", "--focal", "wide"], "focal length"),
        (["--refine", "--ipd", "6"], "pupils"),
        (["--refine", "--components", "nose"], "nose"),
    ):
        result = CliRunner().invoke(app, ["reconstruct", "x.jpg", "-o", str(tmp_path), *arguments])
        assert result.exit_code != 0
        assert said in str(result.exception or result.output)


def test_refine_options_are_part_of_the_public_name_space():
    assert tokenface.RefineOptions is RefineOptions
