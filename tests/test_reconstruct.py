"""Photos of every kind to faces, and what a face knows of itself."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from PIL import Image
from stand_ins import MarkDetector, MarkNetwork, photo_with_marks, stand_in_model
from test_formats import displayed_vertices
from toy_head import toy_head_data

import tokenface
from tokenface.core.device import choose_device
from tokenface.errors import CheckpointError, ImageError, OutputError, TokenFaceError
from tokenface.formats.mesh import split_seams
from tokenface.formats.parameters import read_parameters
from tokenface.geometry.camera import Camera
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.model import HeadModel
from tokenface.images.detection import Detection
from tokenface.inference.face import Face
from tokenface.model import Reconstructor
from tokenface.weights import WEIGHTS_VARIABLE, find_weights


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


@pytest.fixture
def model(head: HeadModel) -> Reconstructor:
    return stand_in_model(head)


@pytest.fixture
def face(model: Reconstructor) -> Face:
    return model.reconstruct(photo_with_marks((60, 40, 40)))[0]


# --- sources


def test_every_kind_of_source_gives_the_same_face(model: Reconstructor, tmp_path: Path) -> None:
    array = photo_with_marks((60, 40, 40))
    Image.fromarray(array).save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    sources = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        tmp_path,
        array,
        array.astype(np.float32) / 255,
        Image.fromarray(array),
        tensor,
        tensor[None].float() / 255,
        [array],
    ]
    answers = [model.reconstruct(source) for source in sources]
    assert [len(faces) for faces in answers] == [1] * len(sources)
    for faces in answers[1:]:
        np.testing.assert_array_equal(faces[0].landmarks, answers[0][0].landmarks)


def test_a_tensor_batch_is_several_photos(model: Reconstructor) -> None:
    photos = np.stack(
        [photo_with_marks((60, 40, 40)), photo_with_marks(), photo_with_marks((10, 10, 30), (90, 60, 40))]
    )
    faces = model.reconstruct(torch.from_numpy(photos).permute(0, 3, 1, 2))
    assert [face.item.name for face in faces] == ["image_0000", "image_0002", "image_0002"]


def test_the_head_lies_on_the_face_in_the_photo(model: Reconstructor) -> None:
    faces = model.reconstruct(photo_with_marks((20, 60, 30), (90, 20, 50)))
    centres = np.array([face.camera.project(np.zeros((1, 3)))[0] for face in faces])
    np.testing.assert_allclose(centres, [[115, 45], [35, 75]], atol=1.5)  # largest first
    assert faces[0].camera.pixels_per_metre / faces[1].camera.pixels_per_metre == pytest.approx(50 / 30, rel=0.08)


def test_largest_faces_are_kept(model: Reconstructor) -> None:
    faces = model.reconstruct(photo_with_marks((5, 5, 20), (90, 20, 50), (20, 60, 30)), max_faces=2)
    assert [round(face.box[2] - face.box[0]) for face in faces] == [50, 30]


def test_batches_are_full_and_order_is_kept(head: HeadModel) -> None:
    model = stand_in_model(head)
    photos = [photo_with_marks(*[(10 + 40 * i, 20, 20 + n)] * 1) for n in range(5) for i in range(2)]
    together = model.reconstruct(photos, batch_size=4)
    network = model.network
    assert isinstance(network, MarkNetwork)
    assert network.batches == [4, 4, 4, 4, 2, 2]  # two passes each
    alone = [model.reconstruct(photo)[0] for photo in photos]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-4)


def test_boxes_and_landmarks_of_the_caller_replace_the_detector(model: Reconstructor) -> None:
    image = photo_with_marks((60, 40, 40))
    by_box = model.reconstruct(image, boxes=[[60, 40, 100, 80]])
    points = np.random.default_rng(0).uniform(60, 100, (68, 2))
    by_points = model.reconstruct(image, landmarks=points)
    several = model.reconstruct([image, image], boxes=[[[60, 40, 100, 80]], None])
    assert (len(by_box), len(by_points), len(several)) == (1, 1, 2)
    assert by_box[0].confidence_features.detection == 1
    assert len(model.detector.looked_at) == 1  # only for the None
    np.testing.assert_allclose(by_points[0].box, [*points.min(axis=0), *points.max(axis=0)])


def test_wrong_boxes_and_landmarks_are_explained(model: Reconstructor) -> None:
    image = photo_with_marks((60, 40, 40))
    with pytest.raises(ImageError, match="boxes are"):
        model.reconstruct(image, boxes=[[1, 2, 3]])
    with pytest.raises(ImageError, match="68"):
        model.reconstruct(image, landmarks=np.zeros((5, 2)))
    with pytest.raises(ImageError, match="one entry per photo"):
        model.reconstruct([image, image, image], boxes=[None, None])


def test_refinement_crops_from_the_networks_own_landmarks(model: Reconstructor) -> None:
    image = photo_with_marks((60, 40, 40))
    loose = [[40, 30, 110, 100]]
    plain, refined = (model.reconstruct(image, boxes=loose, second_crop=second)[0] for second in (False, True))
    expected = plain.landmarks.min(axis=0) + np.ptp(plain.landmarks, axis=0) / 2
    np.testing.assert_allclose(refined.crop.centre, expected, atol=1e-6)
    assert refined.crop.size != pytest.approx(plain.crop.size, rel=1e-3)


class Twice(MarkDetector):
    """Finds every red square twice, as detectors do that look at a photo in tiles."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        found = super().detect(image)
        moved = [replace(face, box=face.box + face.size * np.array([-0.45, -0.1, 0.4, 0.6])) for face in found]
        return sorted([*found, *moved], key=lambda face: -face.size)


def test_a_face_that_is_found_twice_is_one_face(model: Reconstructor, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo_with_marks((10, 10, 40), (90, 40, 50))
    alone = model.reconstruct(image)
    monkeypatch.setattr(model, "_detector", Twice())
    assert len(model.detector.detect(image)) == 4
    merged = model.reconstruct(image)
    assert [face.index for face in merged] == [0, 1]
    for one, other in zip(merged, alone, strict=True):
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1.5)
    two = model.reconstruct(image, max_faces=2)  # the doubles take nobody's place
    assert np.linalg.norm(two[0].landmarks.mean(0) - two[1].landmarks.mean(0)) > 40
    assert len(model.reconstruct(image, max_faces=1)) == 1
    known = [[10, 10, 50, 50], [11, 10, 51, 50]]
    assert len(model.reconstruct(image, boxes=known)) == 2  # who says where faces are gets what he asks for


def test_faces_cheek_to_cheek_are_two(model: Reconstructor) -> None:
    image = photo_with_marks((20, 30, 40), (62, 34, 40))
    assert len(model.reconstruct(image)) == 2


# --- bad input


def test_a_photo_without_a_face_gives_nothing_and_is_reported(model: Reconstructor) -> None:
    assert model.reconstruct(photo_with_marks()) == []
    (result,) = model.iterate(photo_with_marks())
    assert result.status == "no_face"
    assert "no face found" in str(result.error)


def test_bad_photos_do_not_stop_the_others(model: Reconstructor, tmp_path: Path) -> None:
    image = Image.fromarray(photo_with_marks((60, 40, 40)))
    image.save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes(b"this is not a picture")
    image.save(tmp_path / "d.jpg")
    (tmp_path / "d.jpg").write_bytes((tmp_path / "d.jpg").read_bytes()[:-200][:400])
    image.save(tmp_path / "e.png")
    sources = [*sorted(tmp_path.iterdir()), tmp_path / "missing.jpg"]
    results = list(model.iterate(sources))
    assert [result.status for result in results] == ["done", "failed", "failed", "failed", "done", "failed"]
    for result in results:
        assert result.error is None or "\n" not in str(result.error)
    assert len(model.reconstruct(sources, on_error="skip")) == 2
    with pytest.raises(ImageError):
        model.reconstruct(sources)


def test_a_decompression_bomb_is_refused(model: Reconstructor, tmp_path: Path) -> None:
    Image.new("1", (3000, 3000)).save(tmp_path / "bomb.png")
    (result,) = model.iterate(tmp_path / "bomb.png", max_pixels=1_000_000)
    assert result.status == "failed"
    assert "million pixels" in str(result.error)


def test_an_empty_folder_is_explained(model: Reconstructor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures"):
        model.reconstruct(tmp_path)


def test_an_odd_failure_costs_one_photo(model: Reconstructor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = model.detector.detect

    def fragile(image: np.ndarray):
        if image.shape[0] == 50:
            raise RuntimeError("odd\nfailure")
        return real(image)

    monkeypatch.setattr(model.detector, "detect", fragile)
    good = photo_with_marks((60, 40, 40))
    results = list(model.iterate([good, photo_with_marks(size=(50, 60)), good]))
    assert [result.status for result in results] == ["done", "failed", "done"]
    assert "RuntimeError: odd failure" in str(results[1].error)


def test_a_network_failure_costs_one_photo(model: Reconstructor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = model.network.forward

    def fragile(images: torch.Tensor):
        if (images[:, 2] > 0.9).any():
            raise RuntimeError("unlucky")
        return real(images)

    monkeypatch.setattr(model.network, "forward", fragile)
    blue = photo_with_marks((60, 40, 40))
    blue[:10, :, 2] = blue[70:, :, 2] = 255
    good = photo_with_marks((60, 40, 40))
    assert [r.status for r in model.iterate([good, blue, good])] == ["done", "failed", "done"]


def test_weights_that_give_no_numbers_are_named(model: Reconstructor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = model.network.forward
    monkeypatch.setattr(
        model.network, "forward", lambda images: real(images).replace(jaw=torch.full((1, 3), torch.nan))
    )
    with pytest.raises(CheckpointError, match="stand-in"):
        model.reconstruct(photo_with_marks((60, 40, 40)))


def test_unknown_weights_and_devices_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(CheckpointError, match="known names: tokenface-s, tokenface-ti"):
        tokenface.load("no-such-name")
    with pytest.raises(CheckpointError, match="does not exist"):
        find_weights(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        find_weights(tmp_path)
    with pytest.raises(TokenFaceError, match="not available"):
        choose_device("quantum")
    checkpoint = tmp_path / "mine.safetensors"
    checkpoint.write_bytes(b"")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(checkpoint))
    assert find_weights() == checkpoint


# --- confidence


def test_confidence_falls_when_the_signs_disagree(model: Reconstructor) -> None:
    image = photo_with_marks((60, 40, 40))
    good = model.reconstruct(image)[0]
    assert 0.2 < good.confidence <= 1
    beside = model.reconstruct(image)[0].landmarks + np.array([60, 0])
    wrong = model.reconstruct(image, landmarks=beside)[0]
    assert wrong.confidence < 0.01
    tiny = model.reconstruct(photo_with_marks((60, 40, 8)))[0]
    assert tiny.confidence < 0.6 * good.confidence


# --- a face


def test_vertices_are_the_head_models(face: Face, head: HeadModel) -> None:
    p = face.parameters[None]
    assert float(p.expression.min()) == 0  # brought into ARKit's range
    assert float(p.expression.max()) == 1
    expected = head(p.shape, p.expression, p.jaw).vertices[0]
    np.testing.assert_allclose(face.vertices, expected, atol=1e-7)
    np.testing.assert_allclose(face.neutral_vertices, head(p.shape).vertices[0], atol=1e-7)
    assert face.expressions["mouthSmileLeft"] == pytest.approx(-0.2 + 1.3 / 4, abs=1e-6)


def test_mesh_is_textured_and_its_seam_is_split(face: Face) -> None:
    mesh = face.mesh
    assert isinstance(mesh, trimesh.Trimesh)
    assert len(mesh.faces) == len(face.faces)
    assert len(mesh.visual.uv) == len(mesh.vertices) > len(face.vertices)
    assert mesh.visual.material.baseColorTexture.size == (32, 32)
    np.testing.assert_allclose(mesh.triangles, face.vertices[face.faces], atol=1e-6)
    np.testing.assert_allclose(face.trimesh(neutral=True).triangles, face.neutral_vertices[face.faces], atol=1e-6)


@pytest.mark.parametrize("neutral", [False, True])
@pytest.mark.parametrize("correctives", [False, True])
def test_a_viewer_of_the_glb_shows_the_vertices_of_the_face(tmp_path: Path, correctives: bool, neutral: bool) -> None:
    head = HeadModel(toy_head_data(pose_correctives=correctives))
    face = stand_in_model(head).reconstruct(photo_with_marks((60, 40, 40)))[0]
    document = pygltflib.GLTF2().load(str(face.save(tmp_path / "face.glb", neutral=neutral)))
    source = split_seams(head.data.faces, head.data.uv, head.data.uv_faces).source
    expected = face.neutral_vertices if neutral else face.vertices
    assert np.abs(face.vertices - face.neutral_vertices).max() > 0.005
    np.testing.assert_allclose(displayed_vertices(document), expected[source], atol=1e-5)
    assert [node.name for node in document.nodes[1:]] == ["root", "neck", "jaw", "left_eye", "right_eye"]


def test_morph_weights_of_the_glb_animate_the_head_model(face: Face, head: HeadModel, tmp_path: Path) -> None:
    """Another expression, made by changing the file's weights alone, is the head model's answer to it."""
    document = pygltflib.GLTF2().load(str(face.save(tmp_path / "face.glb", neutral=True)))
    weights = [0.0, 0.9, 0.4, 0.0, 0.0]
    document.meshes[0].weights[:5] = weights
    expected = head(face.parameters.shape[None], torch.tensor([weights])).vertices[0].numpy()
    source = split_seams(head.data.faces, head.data.uv, head.data.uv_faces).source
    np.testing.assert_allclose(displayed_vertices(document), expected[source], atol=1e-5)


def test_arkit_values_are_52_and_the_jaw_joint_is_among_them(face: Face) -> None:
    arkit = face.arkit
    assert arkit is not None
    assert len(arkit) == 52
    assert all(0 <= weight <= 1 for weight in arkit.values())
    assert arkit["mouthSmileLeft"] == pytest.approx(face.expressions["mouthSmileLeft"])
    assert arkit["jawOpen"] == pytest.approx(0.2 / 0.43, rel=1e-5)
    assert arkit["tongueOut"] == 0


def test_jaw_actions_of_the_joint_are_also_morph_targets(face: Face, head: HeadModel) -> None:
    rig = face.rig()
    assert rig.morph_names[5:] == ("jawOpen", "jawLeft", "jawRight")
    assert not rig.morph_weights[5:].any()  # the joint carries the face's own jaw
    shape = face.parameters.shape[None]
    opened = head(shape, jaw=torch.tensor([[0.43, 0.0, 0.0]])).vertices[0].numpy()
    np.testing.assert_allclose(rig.rest + rig.morphs[5], opened, atol=1e-6)


def test_head_models_without_arkit_names_keep_their_own() -> None:
    data = toy_head_data()
    data.expression_names = tuple(f"expression_{i}" for i in range(5))
    face = stand_in_model(HeadModel(data)).reconstruct(photo_with_marks((60, 40, 40)))[0]
    assert face.arkit is None
    assert "arkit" not in face.to_dict()
    assert face.rig().morph_names == data.expression_names


def test_a_bare_head_model_is_enough(tmp_path: Path) -> None:
    """As FLAME comes from its authors: no albedo, no 468 points, no driven eyes, expressions without bounds."""
    data = toy_head_data(pose_correctives=True, eyes=False)
    data.expression_names = tuple(f"expression_{i}" for i in range(5))
    data.expression_range = data.mesh468_faces = data.mesh468_barycentrics = None
    data.albedo_mean = data.albedo_basis = None
    face = stand_in_model(HeadModel(data)).reconstruct(photo_with_marks((60, 40, 40)))[0]
    assert float(face.parameters.expression.min()) == pytest.approx(-0.2)
    assert face.landmarks468 is None
    for suffix in ("glb", "obj", "ply", "json"):
        face.save(tmp_path / f"face.{suffix}")
    document = pygltflib.GLTF2().load(str(tmp_path / "face.glb"))
    source = split_seams(data.faces, data.uv, data.uv_faces).source
    np.testing.assert_allclose(displayed_vertices(document), face.vertices[source], atol=1e-5)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "json"])
def test_save_writes_what_the_suffix_says(face: Face, tmp_path: Path, suffix: str) -> None:
    path = face.save(tmp_path / f"me.{suffix}")
    assert path.is_file()
    if suffix != "json":
        assert len(trimesh.load(path, force="mesh").faces) == len(face.faces)


def test_an_unknown_suffix_is_explained(face: Face, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'\.fbx' is not one of \.glb, .*\.obj, .*\.json"):
        face.save(tmp_path / "me.fbx")


def test_parameters_json_holds_everything_and_gives_the_face_back(face: Face, tmp_path: Path) -> None:
    document = read_parameters(face.save(tmp_path / "p.json"))
    assert document["photo"] == {"name": "image", "width": 160, "height": 120}
    entry = document["faces"][0]
    assert set(entry["parameters"]) == {"shape", "expression", "jaw", "camera", "texture", "light"}
    assert np.shape(entry["parameters"]["light"]) == (9, 3)
    assert list(entry["parameters"]["expression"]) == list(face.head.expression_names)
    assert np.shape(entry["landmarks68"]) == (68, 2)
    again = Face.from_dict(entry, document, face.head)
    np.testing.assert_allclose(again.vertices, face.vertices, atol=1e-6)
    np.testing.assert_allclose(again.landmarks, face.landmarks, atol=1e-3)
    assert again.confidence == pytest.approx(face.confidence)
    matrix = np.array(entry["camera"]["orthographic"])
    points = np.column_stack([face.landmarks3d, np.ones(68)]) @ matrix.T
    np.testing.assert_allclose(points[:, :2], face.landmarks, atol=1e-3)


def test_parameters_of_another_head_model_are_refused(face: Face, tmp_path: Path) -> None:
    document = read_parameters(face.save(tmp_path / "p.json"))
    with pytest.raises(TokenFaceError, match="belong to head model 'toy'"):
        Face.from_dict(document["faces"][0], document, HeadModel(toy_head_data(seed=1)))
    (tmp_path / "q.json").write_text(json.dumps({"schema": "other"}))
    with pytest.raises(TokenFaceError, match="schema"):
        read_parameters(tmp_path / "q.json")


# --- cameras

ANGLES = [0.0, 0.6, -2.5]


def face_camera(angle: float, centre: tuple[float, float] = (900, 200)) -> FaceCamera:
    return FaceCamera(np.array([6.0, 0.2, -0.4, 0.3, 0.05, -0.1, 0.2]), Crop(centre, 180, angle), (768, 1024))


@pytest.mark.parametrize("angle", ANGLES)
def test_orthographic_matrix_is_crop_camera_and_crop_in_one(angle: float) -> None:
    camera, points = face_camera(angle), np.random.default_rng(0).normal(size=(50, 3)) * 0.08
    ndc = Camera.from_vector(torch.tensor(camera.vector)[None]).project(torch.tensor(points)[None])[0, :, :2].numpy()
    np.testing.assert_allclose(camera.project(points), camera.crop.to_photo(ndc), atol=1e-9)


@pytest.mark.parametrize("angle", ANGLES)
def test_pinhole_camera_is_the_orthographic_one_from_afar(angle: float) -> None:
    camera, points = face_camera(angle), np.random.default_rng(0).normal(size=(50, 3)) * 0.08
    near, far = camera.pinhole(), camera.pinhole(focal=2e6)
    np.testing.assert_allclose(far.project(points), camera.project(points), atol=0.05)
    np.testing.assert_allclose(near.project(np.zeros((1, 3))), camera.project(np.zeros((1, 3))), atol=1e-9)
    np.testing.assert_allclose(near.R @ near.R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(near.R) == pytest.approx(1)
    assert near.t[2] > 1
    # A few percent of perspective at a metre or two, also far off the axis.
    error = np.linalg.norm(near.project(points) - camera.project(points), axis=1)
    assert error.mean() < 0.06 * camera.pixels_per_metre * 0.14


def test_pinhole_camera_agrees_with_opencv() -> None:
    import cv2

    camera, points = face_camera(0.4), np.random.default_rng(0).normal(size=(20, 3)) * 0.08
    pinhole = camera.pinhole()
    rotation, _ = cv2.Rodrigues(pinhole.R)
    expected, _ = cv2.projectPoints(points, rotation, pinhole.t, pinhole.K, np.zeros(5))
    np.testing.assert_allclose(pinhole.project(points), expected[:, 0], atol=1e-6)


def test_a_face_at_the_edge_keeps_its_appearance() -> None:
    """Turning the head towards the viewing ray matters: without it the far side of the face would show."""
    camera, points = face_camera(0.0, (1000, 60)), np.random.default_rng(0).normal(size=(200, 3)) * 0.06
    pinhole = camera.pinhole()
    turned = np.linalg.norm(pinhole.project(points) - camera.project(points), axis=1).mean()
    straight = np.diag([1.0, -1, -1]) @ camera.rotation
    unturned = (points @ straight.T + pinhole.t) @ pinhole.K.T
    assert turned < 0.6 * np.linalg.norm(unturned[:, :2] / unturned[:, 2:] - camera.project(points), axis=1).mean()


# --- public API


def test_import_is_light_and_the_names_are_there() -> None:
    import subprocess
    import sys

    late = "tokenface.Reconstructor; assert 'torch' in sys.modules"
    code = f"import tokenface, sys; assert 'torch' not in sys.modules; {late}"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for name in tokenface.__all__:
        if name != "TokenFace":
            assert getattr(tokenface, name)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tokenface.nonsense
