"""Heads between two people: what lies between, what stays one person's, and what cannot be blended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from test_glb_textures import pictures
from toy_head import toy_head_data

import tokenface
from tokenface import cli
from tokenface.cli.console import SOME_FAILED
from tokenface.errors import ConfigError, OutputError, TokenFaceError
from tokenface.formats.parameters import read_parameters, write_parameters
from tokenface.head.model import HeadModel
from tokenface.images.loading import ImageItem
from tokenface.inference.blending import blend, mixed_iris, mixed_skin
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document
from tokenface.inference.refinement import Refinement
from tokenface.jobs.blend import BlendOptions, blend_files
from tokenface.model import Reconstructor


@pytest.fixture(scope="module")
def model() -> Reconstructor:
    return stand_in_model(HeadModel(toy_head_data()))


@pytest.fixture(scope="module")
def people(model: Reconstructor) -> tuple[Face, Face]:
    first, second = model.reconstruct([photo_with_marks((60, 40, 40)), photo_with_marks((30, 30, 24))])
    p = second.parameters
    other = p.replace(shape=-2 * p.shape, texture=p.texture.flip(0), expression=p.expression / 2, jaw=-p.jaw)
    return first, replace(second, parameters=other)


def test_shape_and_albedo_lie_between_and_the_rest_is_one_persons(people: tuple[Face, Face]) -> None:
    first, second = people
    for expression, shown in (("first", first), ("second", second)):
        between = blend(first, second, 0.25, expression)  # type: ignore[arg-type]
        for name in ("shape", "texture"):
            one, other = (getattr(face.parameters, name) for face in people)
            torch.testing.assert_close(getattr(between.parameters, name), 0.75 * one + 0.25 * other)
        for name in ("expression", "jaw", "camera", "light"):
            assert torch.equal(getattr(between.parameters, name), getattr(shown.parameters, name))
        assert between.camera is shown.camera
        assert between.item is shown.item
    neutral = [blend(first, second, share).neutral_vertices for share in (0, 0.5, 1)]
    np.testing.assert_allclose(neutral[0], first.neutral_vertices, atol=1e-7)
    np.testing.assert_allclose(neutral[1], (first.neutral_vertices + second.neutral_vertices) / 2, atol=1e-6)
    np.testing.assert_allclose(neutral[2], second.neutral_vertices, atol=1e-7)
    assert tokenface.blend is blend


def test_sizes_lie_between_and_the_head_stays_as_large_on_the_photo(people: tuple[Face, Face]) -> None:
    record = Refinement(None, None, 0.1, 1.0, photos=3, size=1.2, size_origin="ipd")
    vector = people[1].camera.vector.copy()
    vector[0] /= 1.2
    large = replace(people[1], refined=record, camera=replace(people[1].camera, vector=vector))
    between = blend(people[0], large, 0.5)
    assert between.size == pytest.approx(1.1)
    assert between.refined is not None
    assert (between.refined.size_origin, between.refined.photos) == ("ipd", 1)  # it was not refined itself
    plain = blend(people[0], people[1], 0.5)
    np.testing.assert_allclose(between.vertices, plain.vertices * 1.1, atol=1e-6)
    np.testing.assert_allclose(between.landmarks, plain.landmarks, atol=1e-3)
    document = photo_document([between], "a")
    again = Face.from_dict(json.loads(json.dumps(document))["faces"][0], document, between.head)
    np.testing.assert_allclose(again.landmarks, between.landmarks, atol=1e-3)


def test_skins_and_irises_of_both_photos_are_mixed(
    people: tuple[Face, Face], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    skins = {"a": np.full((32, 32, 3), 200, np.uint8), "b": np.full((64, 64, 3), 100, np.uint8)}
    photo = np.zeros((*people[0].camera.photo_size, 3), np.uint8)
    named = [replace(face, item=ImageItem(name, photo)) for face, name in zip(people, "ab", strict=True)]
    monkeypatch.setattr(Face, "photo_texture", lambda self, photo=None, **_: skins[self.item.name])
    path = blend(*named, 0.25).save(tmp_path / "a.glb")
    ((_, shown),) = pictures(pygltflib.GLTF2().load(str(path)))
    assert shown.shape == (64, 64, 3)
    assert (shown == 175).all()
    model = blend(*named, 0.25).save(tmp_path / "b.glb", texture="model")
    ((_, shown),) = pictures(pygltflib.GLTF2().load(str(model)))
    assert np.array_equal(shown, blend(*named, 0.25).albedo)
    brown, blue = np.array([80, 50, 40], np.uint8), np.array([100, 130, 160], np.uint8)
    pair = (named[0], named[1])
    assert mixed_iris(pair, [brown, blue], 0.25).tolist() == [85, 70, 70]  # type: ignore[union-attr]
    assert mixed_iris(pair, [None, None], 0.25) is None
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert np.array_equal(mixed_skin(ramp, 255 - ramp, 0.0), ramp)


def test_photos_and_their_parameters_give_a_file_for_every_share(
    model: Reconstructor, people: tuple[Face, Face], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenface.retarget.sources.load_head_by_hash", lambda *_: model.head)
    Image.fromarray(photo_with_marks((60, 40, 40))).save(tmp_path / "a.png")
    write_parameters(tmp_path / "b.json", photo_document([people[1]], "b"))
    options = BlendOptions(shares=(0.3, 0.75), expression="second", formats=("obj", "json"), texture="model")
    files = blend_files(tmp_path / "a.png", tmp_path / "b.json", tmp_path / "out", options, lambda: model)
    assert [path.name for path in files] == ["blend_0.3.obj", "blend_0.75.obj", "parameters.json"]
    document = read_parameters(files[-1])
    assert [entry["index"] for entry in document["faces"]] == [0, 1]
    first = model.reconstruct(tmp_path / "a.png")[0]
    for entry, share in zip(document["faces"], (0.3, 0.75), strict=True):
        wanted = blend(first, people[1], share, "second")
        np.testing.assert_allclose(entry["parameters"]["shape"], wanted.parameters.shape, atol=1e-6)
        np.testing.assert_allclose(entry["parameters"]["jaw"], people[1].parameters.jaw, atol=1e-6)


def test_people_who_are_blended_are_not_overwritten(people: tuple[Face, Face], tmp_path: Path) -> None:
    for name, person in zip("ab", people, strict=True):
        write_parameters(tmp_path / f"{name}.json", photo_document([person], name))
    with pytest.raises(OutputError, match="would be overwritten"):
        blend_files(tmp_path / "a.json", tmp_path / "b.json", tmp_path, BlendOptions(shares=(0.5,)), lambda: None)  # type: ignore[arg-type,return-value]


def test_what_does_not_blend_is_one_line(
    people: tuple[Face, Face], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = stand_in_model(HeadModel(toy_head_data(seed=3))).reconstruct(photo_with_marks((60, 40, 40)))[0]
    with pytest.raises(TokenFaceError, match=r"different head models; blend within one \(tokenface convert") as error:
        blend(people[0], stranger)
    assert "\n" not in str(error.value)
    with pytest.raises(TokenFaceError, match=r"0 to 1, got 1\.5"):
        blend(*people, 1.5)
    with pytest.raises(ConfigError, match="no share"):
        blend_files(tmp_path / "a", tmp_path / "b", tmp_path, BlendOptions(shares=()), lambda: pytest.fail("loaded"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    photo = str(tmp_path / "a.png")
    for wrong in (["--share", "half"], ["--expression", "third"], ["--texture", "velvet"]):
        assert cli.run(["blend", photo, photo, *wrong]) == SOME_FAILED
        assert capsys.readouterr().err.count("\n") == 1
