"""Whose skin files carry: the photo's unless the model's is asked for, and several photos' where there are several."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pygltflib
import pytest
from PIL import Image
from test_photo_texture import face_and_photo, on_region

from tokenface import cli
from tokenface.cli.console import SOME_FAILED
from tokenface.head.registry import load_head
from tokenface.images.loading import ImageItem
from tokenface.inference.face import Face
from tokenface.inference.people import same_person
from tokenface.inference.photo_texture import merged_texture, photo_texture
from tokenface.inference.result import PhotoResult
from tokenface.jobs.one_person import chosen_views, reconstruct_person
from tokenface.jobs.output_tree import OutputTree, Settings
from tokenface.jobs.reconstruct import Options
from tokenface.jobs.track import TrackOptions
from tokenface.jobs.transfer import TransferOptions
from tokenface.retarget.puppet import Puppet


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def known(head) -> tuple[Face, np.ndarray]:
    face, photo = face_and_photo(head, 0.3)
    return replace(face, item=ImageItem("a", photo)), photo


@pytest.fixture(scope="module")
def skin(known) -> np.ndarray:
    return photo_texture(*known)


def glb_image(path: Path) -> np.ndarray:
    document = pygltflib.GLTF2().load(str(path))
    view = document.bufferViews[document.images[0].bufferView]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_saved_face_has_the_photos_skin_unless_the_models_is_asked_for(known, skin, tmp_path):
    face, _ = known
    assert np.array_equal(glb_image(face.save(tmp_path / "a.glb")), skin)
    face.save(tmp_path / "a.obj")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), skin)
    assert np.array_equal(glb_image(face.save(tmp_path / "b.glb", texture="model")), face.albedo)
    gone = replace(face, item=ImageItem("gone", "nowhere.png"))
    assert np.array_equal(glb_image(gone.save(tmp_path / "c.glb")), face.albedo)
    other = replace(face, item=ImageItem("other", np.zeros((9, 9, 3), np.uint8)))  # not the photo that it was found in
    assert np.array_equal(glb_image(other.save(tmp_path / "d.glb")), face.albedo)


def test_a_run_writes_the_photos_skin_unless_the_models_is_asked_for(known, skin, tmp_path):
    face, photo = known
    for name, settings, expected in (
        ("photo", Settings(("glb", "obj"), overlay=False), skin),
        ("model", Settings(("glb", "obj"), overlay=False, texture="model"), face.albedo),
    ):
        tree = OutputTree(tmp_path / name, settings)
        tree.write(PhotoResult(face.item, [face], photo))
        folder = tree.folder(face.item)
        assert np.array_equal(glb_image(folder / "face_00.glb"), expected)
        assert np.array_equal(np.asarray(Image.open(folder / "face_00.png")), expected)


def test_every_door_has_the_photo_as_its_default(known):
    defaults = {Options().texture, Settings().texture, TrackOptions().texture, TransferOptions().texture}
    assert defaults == {"photo"}
    face, photo = known
    assert not np.array_equal(Puppet(face, photo).texture.shape, face.albedo.shape)
    assert np.array_equal(Puppet(face, photo, "model").texture, face.albedo)


@pytest.mark.parametrize("command", [["reconstruct", "a.jpg"], ["track", "a.mp4"], ["transfer", "a.jpg", "b.jpg"]])
def test_an_unknown_skin_is_refused_in_one_line(command, capsys):
    assert cli.run([*command, "--texture", "velvet"]) == SOME_FAILED
    assert "--texture is" in capsys.readouterr().err


def test_photos_of_one_person_become_one_head_with_one_texture(head, tmp_path):
    turned = [face_and_photo(head, yaw) for yaw in (0.9, 0.0, -0.9)]
    named = [
        (
            replace(
                face,
                item=ImageItem(f"{i}", photo),
                confidence_features=replace(face.confidence_features, probability=c),
            ),
            photo,
        )
        for i, ((face, photo), c) in enumerate(zip(turned, (0.5, 0.9, 0.6), strict=True))
    ]
    results = [PhotoResult(face.item, [face], photo) for face, photo in named]
    model = SimpleNamespace(iterate=lambda *_, **__: iter(results), one_person=lambda faces, *_: same_person(faces))
    run = SimpleNamespace(
        options=Options(), items=[face.item for face, _ in named], failures=[], model=model,
        boxes_of=lambda items: None,
        tree=OutputTree(tmp_path, Settings(("glb", "json"), detail=True, maps=("depth", "cutout"))), root=tmp_path,
    )  # fmt: skip
    (tmp_path / "person").mkdir()
    (tmp_path / "person" / "notes.txt").write_text("mine", encoding="utf-8")
    person = reconstruct_person(run)
    assert person.photos == 3
    assert person.best.item.name == "1"  # the frontal, confident one
    assert sorted(path.name for path in person.folder.iterdir()) == sorted(
        [".tokenface.json", "notes.txt", "face_00.glb", "parameters.json", "overlay.png"]
        + [f"face_00_{name}.png" for name in ("depth", "cutout", "displacement", "normal")]
    )
    with Image.open(person.folder / "face_00_cutout.png") as cutout:  # on the best one's photo
        assert np.array_equal(np.asarray(cutout)[..., :3], named[1][1])
    views = [(face, face.item.load()) for face in chosen_views([face for face, _ in named])]
    best, image = views[0]
    alone, all_three = merged_texture(best, image), merged_texture(best, image, views[1:])
    sides = on_region(head, "left_cheek") | on_region(head, "right_cheek")
    mask = [np.asarray(Image.fromarray(m.mask).resize(sides.shape))[sides].mean() for m in (alone, all_three)]
    assert mask[1] > mask[0] + 0.05  # further photos show what the first does not
    assert glb_image(person.folder / "face_00.glb").shape == all_three.image.shape


def test_detail_is_written_beside_the_head_and_swept_with_it(known, tmp_path):
    face, photo = known
    tree = OutputTree(tmp_path, Settings(("json",), overlay=False, detail=True))
    tree.write(PhotoResult(face.item, [face], photo))
    folder = tree.folder(face.item)
    with Image.open(folder / "face_00_displacement.png") as relief:
        assert relief.mode.startswith("I;16")
        assert np.asarray(relief)[0, 0] == 32_768
    assert np.asarray(Image.open(folder / "face_00_normal.png"))[0, 0].tolist() == [128, 128, 255]
    plain = OutputTree(tmp_path, Settings(("json",), overlay=False))
    plain.write(PhotoResult(face.item, [face], photo))
    assert not (folder / "face_00_normal.png").exists()
