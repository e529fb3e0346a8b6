"""Irises of the photo's colour, whichever way a head leaves: saved, of several photos, transferred, served, tracked."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from starlette.testclient import TestClient

from tokenface.app.editing import Edit
from tokenface.app.folder import work_folder
from tokenface.app.limits import Limits
from tokenface.app.photo_sessions import PhotoSession
from tokenface.app.server import create_app
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.registry import load_head
from tokenface.images.loading import ImageItem
from tokenface.inference.face import Face
from tokenface.inference.maps import PARTS
from tokenface.inference.part_rig import eye_material
from tokenface.inference.people import same_person
from tokenface.inference.result import PhotoResult
from tokenface.jobs.one_person import reconstruct_person
from tokenface.jobs.output_tree import OutputTree, Settings
from tokenface.jobs.reconstruct import Options
from tokenface.jobs.transfer import TransferOptions, transfer
from tokenface.model import Reconstructor

GREEN = np.array([70, 140, 80], np.uint8)
SIDE = 600


@pytest.fixture(scope="module")
def model() -> Reconstructor:
    return stand_in_model(load_head("openhead"))


@pytest.fixture(scope="module")
def known(model: Reconstructor) -> tuple[Face, np.ndarray]:
    """A face, and a photo that shows nothing but plain skin and its eyes, with green irises."""
    found = model.reconstruct(photo_with_marks((60, 40, 40)))[0]
    calm = found.parameters.replace(expression=torch.zeros_like(found.parameters.expression), jaw=torch.zeros(3))
    camera = FaceCamera(np.array([7.0, 0, 0, 0, 0, 0, 0]), Crop((SIDE / 2, SIDE / 2), SIDE), (SIDE, SIDE))
    face = replace(found, parameters=calm, camera=camera)
    maps = face.maps()
    labels = maps.on_photo(maps.parts)
    photo = np.full((SIDE, SIDE, 3), (210, 170, 150), np.uint8)
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    for name in ("left_eye", "right_eye"):
        eye = face.vertices[face.head.data.regions[f"{name}ball"]]
        x, y = camera.project(eye[[int(np.argmax(eye[:, 2]))]])[0]
        inside, away = labels == PARTS.index(name), np.hypot(columns - x, rows - y)
        photo[inside] = (236, 229, 222)
        photo[inside & (away < 12.5)] = GREEN
        photo[inside & (away < 4)] = 10
    return replace(face, item=ImageItem("a", photo)), photo


@pytest.fixture
def always_green(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Face, "iris_colour", lambda self, photo=None: GREEN)


def eyes(data: bytes) -> np.ndarray:
    """[R, R, 3] uint8: the texture of the eyes in a GLB."""
    document = pygltflib.GLTF2.load_from_bytes(data)
    image = next(image for image in document.images if image.name == "eyes")
    view = document.bufferViews[image.bufferView]
    blob = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGB"))


def are_green(data: bytes) -> bool:
    return np.array_equal(eyes(data), eye_material(GREEN).texture)


def test_a_saved_head_has_the_eyes_of_its_photo(known: tuple[Face, np.ndarray], tmp_path: Path) -> None:
    face, photo = known
    seen = face.iris_colour(photo)
    assert seen is not None
    np.testing.assert_allclose(seen.astype(float), GREEN, atol=14)
    wanted = eye_material(seen).texture
    for name in ("face.glb", "face.vrm"):
        assert np.array_equal(eyes(face.save(tmp_path / name, texture="model").read_bytes()), wanted)
    predicted = eyes(face.save(tmp_path / "b.glb", texture="model", iris=None).read_bytes())
    assert not np.array_equal(predicted, wanted)
    own = eyes(face.save(tmp_path / "c.glb", texture="model", iris=GREEN).read_bytes())
    assert np.array_equal(own, eye_material(GREEN).texture)
    for item in (ImageItem("gone", "nowhere.png"), ImageItem("other", np.zeros((9, 9, 3), np.uint8))):
        lost = replace(face, item=item).save(tmp_path / "d.glb", texture="model")
        assert np.array_equal(eyes(lost.read_bytes()), predicted)


@pytest.mark.usefixtures("always_green")
def test_one_head_of_several_photos_has_them(known: tuple[Face, np.ndarray], tmp_path: Path) -> None:
    face, photo = known
    results = [PhotoResult(face.item, [face], photo)]
    model = SimpleNamespace(iterate=lambda *_, **__: iter(results), one_person=lambda faces, *_: same_person(faces))
    run = SimpleNamespace(
        options=Options(formats=("glb",), neutral=True), items=[face.item], failures=[], model=model,
        boxes_of=lambda items: None,
        tree=OutputTree(tmp_path, Settings(("glb",), neutral=True, overlay=False)), root=tmp_path,
    )  # fmt: skip
    person = reconstruct_person(run)  # type: ignore[arg-type]
    assert all(are_green(path.read_bytes()) for path in person.folder.glob("*.glb"))


@pytest.mark.usefixtures("always_green")
def test_a_target_keeps_its_eyes(known: tuple[Face, np.ndarray], model: Reconstructor, tmp_path: Path) -> None:
    Image.fromarray(photo_with_marks((60, 40, 40))).save(tmp_path / "a.png")
    head = model.head
    np.savez(
        tmp_path / "a.npz",
        time=np.array([0.0, 0.04]),
        rotation=np.tile(np.eye(3), (2, 1, 1)),
        head_hash=head.data.geometry_hash(),
        expression=np.zeros((2, head.sizes.expression), np.float32),
        jaw=np.zeros((2, 3), np.float32),
    )
    quiet = TransferOptions(picture=False, texture="model")
    for source in ("a.png", "a.npz"):
        transfer(model, tmp_path / source, tmp_path / "a.png", tmp_path / "out", quiet)
        assert are_green((tmp_path / "out/transfer.glb").read_bytes())


@pytest.mark.usefixtures("always_green")
def test_the_api_sends_them(model: Reconstructor) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo_with_marks((60, 40, 40))).save(buffer, format="PNG")
    with work_folder() as folder:
        app = create_app(lambda: model, lambda: model, folder, Limits(seconds=60), page=False)
        with TestClient(app, base_url="http://localhost") as client:
            glb, archive = (
                client.post(
                    f"/v1/reconstruct?format={form}&texture=model", files={"photo": ("a.png", buffer.getvalue())}
                ).content
                for form in ("glb", "zip")
            )
    assert are_green(glb)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert are_green(files.read("face_00.glb"))


def test_a_head_that_was_turned_on_the_page_keeps_its_eyes(known: tuple[Face, np.ndarray]) -> None:
    face, photo = known
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="PNG")
    session = PhotoSession.of("a.png", buffer.getvalue(), [face], photo)
    session.edit(0, Edit(angles=(0.8, 0.0, 0.0), arkit={"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}))
    with zipfile.ZipFile(io.BytesIO(session.everything("model"))) as files:
        for data in (session.glb(0, "model"), files.read("face_00.glb")):
            assert np.array_equal(eyes(data), eye_material(face.iris_colour(photo)).texture)  # type: ignore[arg-type]
