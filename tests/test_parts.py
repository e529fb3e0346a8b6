"""Eyes, teeth and tongue as meshes of their own: where they stand, what moves them, how they look in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from scipy.spatial.transform import Rotation
from stand_ins import photo_with_marks, stand_in_model
from test_formats import read_accessor
from toy_head import toy_head_data

from tokenface.formats.glb import glb_bytes
from tokenface.formats.glb_animation import Animation, animated_glb_bytes
from tokenface.formats.rig import Rig, RigPart
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.head.model import JAW, LEFT_EYE, HeadModel
from tokenface.head.parts import affine_follow, head_parts
from tokenface.head.registry import load_head
from tokenface.inference.eye_colour import iris_of_photo
from tokenface.inference.face import Face
from tokenface.inference.maps import PARTS
from tokenface.inference.part_rig import eye_material
from tokenface.render.rasterizer import rasterize

NAMES = ("left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("openhead")


@pytest.fixture(scope="module")
def face(head: HeadModel) -> Face:
    found = stand_in_model(head).reconstruct(photo_with_marks((60, 40, 40)))[0]
    expression = torch.zeros(head.sizes.expression)
    for name, weight in (("jawForward", 0.5), ("eyeLookOutLeft", 0.7), ("eyeLookUpLeft", 0.3)):
        expression[head.expression_names.index(name)] = weight
    shape = torch.randn(head.sizes.shape, generator=torch.Generator().manual_seed(4)) * 0.8
    jaw = torch.tensor([0.25, 0.02, 0.0])
    return replace(found, parameters=found.parameters.replace(shape=shape, expression=expression, jaw=jaw))


@pytest.fixture(scope="module")
def rig(face: Face) -> Rig:
    return face.rig()


def part(rig: Rig, name: str) -> RigPart:
    return next(part for part in rig.parts if part.name == name)


def shown(rig: Rig, of: RigPart) -> np.ndarray:
    """[N, 3]: the part as a viewer shows it."""
    as_rig = replace(
        rig, rest=of.rest, skinning_weights=of.skinning_weights, morphs=of.morphs, morph_weights=of.morph_weights
    )
    return as_rig.posed()


def test_the_head_model_is_the_one_that_all_weights_know(head: HeadModel) -> None:
    assert head.data.geometry_hash() == "5d9961949a22741e"
    assert len(head.data.template) == 4832
    assert head_parts(head.data) is not None
    other = replace(head.data, template=head.data.template * np.float32(1.001))
    assert head_parts(other) is None  # made for this geometry and no other


def test_a_part_follows_affine_motion_exactly() -> None:
    random = np.random.default_rng(0)
    source, vertices = random.normal(size=(30, 3)), random.normal(size=(11, 3))
    follow = affine_follow(source, vertices)
    matrix, shift = random.normal(size=(3, 3)), random.normal(size=3)
    np.testing.assert_allclose(follow @ (source @ matrix + shift), vertices @ matrix + shift, atol=1e-12)
    np.testing.assert_allclose(follow.sum(axis=1), 1, atol=1e-12)


def test_parts_stand_where_the_head_models_own_pieces_are(rig: Rig, face: Face, head: HeadModel) -> None:
    assert tuple(part.name for part in rig.parts) == NAMES
    regions = head.data.regions
    for name, region in (("left_eye", "left_eyeball"), ("right_eye", "right_eyeball"), ("tongue", "tongue")):
        here, there = shown(rig, part(rig, name)), face.vertices[regions[region]]
        middles = [(points.min(axis=0) + points.max(axis=0)) / 2 for points in (here, there)]
        np.testing.assert_allclose(*middles, atol=1e-3)  # metres
        # the coarse ball's vertices miss the ball's own poles
        np.testing.assert_allclose(np.ptp(here, axis=0), np.ptp(there, axis=0), atol=4e-3)
    teeth = face.vertices[regions["teeth"]]
    for name in ("upper_teeth", "lower_teeth"):
        here = shown(rig, part(rig, name))
        assert (here.min(axis=0) > teeth.min(axis=0) - 0.008).all()
        assert (here.max(axis=0) < teeth.max(axis=0) + 0.008).all()


def test_eyes_are_closed_balls_and_crowns_face_outwards(rig: Rig) -> None:
    for name in ("left_eye", "right_eye"):
        eye = part(rig, name)
        edges = np.sort(np.concatenate([eye.faces[:, [0, 1]], eye.faces[:, [1, 2]], eye.faces[:, [2, 0]]]), axis=1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
        corners = (eye.rest - eye.rest.mean(axis=0))[eye.faces].astype(np.float64)
        volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        middle = (eye.rest.min(axis=0) + eye.rest.max(axis=0)) / 2
        radius = np.linalg.norm(eye.rest - middle, axis=1).mean()
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)
    for name in ("upper_teeth", "lower_teeth"):
        teeth = part(rig, name)
        corners = teeth.rest[teeth.faces].astype(np.float64)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        front = corners.mean(axis=1)[:, 2] > np.quantile(teeth.rest[:, 2], 0.9)
        assert normals[front, 2].sum() > 0


def test_a_closed_mouth_shows_no_teeth_and_shut_lids_no_eye(head: HeadModel) -> None:
    plain = stand_in_model(head).reconstruct(photo_with_marks((60, 40, 40)))[0]
    shut = torch.zeros(head.sizes.expression)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        shut[head.expression_names.index(name)] = 0.85
    for seed in range(3):
        shape = torch.randn(head.sizes.shape, generator=torch.Generator().manual_seed(seed)) * 0.8
        parameters = plain.parameters.replace(shape=shape, expression=shut, jaw=torch.zeros(3))
        rig = replace(plain, parameters=parameters).rig()
        pieces = [(rig.posed(), head.data.faces[rig.skin_faces]), *((shown(rig, p), p.faces) for p in rig.parts)]
        starts = np.cumsum([0, *(len(vertices) for vertices, _ in pieces)])
        faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, starts, strict=False)])
        vertices = np.concatenate([vertices for vertices, _ in pieces])
        skin = len(pieces[0][1])
        for yaw in (-0.8, 0.0, 0.8):
            turned = vertices @ Rotation.from_rotvec([0, yaw, 0]).as_matrix().T * [8, -8, -8]
            seen = rasterize(torch.tensor(turned[None], dtype=torch.float32), torch.from_numpy(faces), 320, 320)
            assert (seen.triangle_ids >= skin).sum() <= 0.0005 * seen.mask.sum()


def test_all_52_actions_have_a_target_and_normals(face: Face) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(face.riggable_mesh(), face.rig()))
    assert set(document.meshes[0].extras["targetNames"]) == set(ARKIT_NAMES)
    assert [mesh.name for mesh in document.meshes[1:]] == list(NAMES)
    assert {material.name for material in document.materials} == {"skin", "eyes", "teeth", "tongue"}
    by_name = {material.name: material.pbrMetallicRoughness.roughnessFactor for material in document.materials}
    assert by_name["eyes"] < 0.1 < by_name["tongue"] < by_name["skin"]
    for mesh in document.meshes:
        for target in mesh.primitives[0].targets or []:
            assert set(target) == {"POSITION", "NORMAL"}


@pytest.mark.parametrize("action", ["jawForward", "mouthSmileLeft", "tongueOut"])
def test_a_morphs_normals_are_those_of_the_moved_mesh(face: Face, action: str) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(face.riggable_mesh(), face.rig()))
    for mesh in document.meshes:
        names = (mesh.extras or {}).get("targetNames", [])
        if action not in names or mesh.name == "face":
            continue  # the skin's seams are split: its own test follows
        primitive = mesh.primitives[0]
        target = primitive.targets[names.index(action)]
        moved = read_accessor(document, primitive.attributes.POSITION) + read_accessor(document, target["POSITION"])
        normals = read_accessor(document, primitive.attributes.NORMAL) + read_accessor(document, target["NORMAL"])
        faces = read_accessor(document, primitive.indices).reshape(-1, 3).astype(int)
        np.testing.assert_allclose(normals, _normals(moved, faces), atol=8e-3)
    rig = face.rig()
    assert rig.round is not None
    number = rig.morph_names.index(action)
    primitive = document.meshes[0].primitives[0]
    target = primitive.targets[number]
    normals = read_accessor(document, primitive.attributes.NORMAL) + read_accessor(document, target["NORMAL"])
    rest = rig.round.places(rig.rest)
    wanted = _normals(rest.astype(np.float64) + rig.round.places(rig.morphs[number]), rig.round.faces)
    at = read_accessor(document, primitive.attributes.POSITION)
    first = {tuple(place): index for index, place in enumerate(rest)}
    source = np.array([first[tuple(place)] for place in at])
    np.testing.assert_allclose(normals, wanted[source], atol=8e-3)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted, corner by corner."""
    corners = vertices[faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [np.bincount(faces.reshape(-1), np.repeat(cross[:, axis], 3), len(vertices)) for axis in range(3)], axis=1
    )
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)


def test_players_of_morphs_alone_move_jaw_and_eyes(rig: Rig) -> None:
    """The fallback target goes where the joint would; the file shows the joint's pose, so its weight is 0."""
    turns = {"jawOpen": (JAW, "lower_teeth", [0.43, 0, 0]), "eyeLookOutLeft": (LEFT_EYE, "left_eye", [0, 0.52, 0])}
    for action, (joint, name, turn) in turns.items():
        of = part(rig, name)
        number = of.morph_names.index(action)
        assert of.morph_weights[number] == 0
        assert action in of.fallbacks
        about = of.rest.astype(np.float64) - rig.joints[joint]
        moved = about @ Rotation.from_rotvec(turn).as_matrix().T + rig.joints[joint]
        np.testing.assert_allclose(of.rest + of.morphs[number], moved, atol=1e-6)
    eye = part(rig, "left_eye")
    pupil = int(np.argmax(eye.rest[:, 2]))
    assert eye.morphs[eye.morph_names.index("eyeLookOutLeft"), pupil, 0] > 0.005  # to the subject's left
    assert not part(rig, "upper_teeth").morph_names


def test_the_tongue_comes_out(rig: Rig) -> None:
    tongue = part(rig, "tongue")
    moves = tongue.morphs[tongue.morph_names.index("tongueOut")]
    assert moves[:, 2].max() > 0.03
    assert moves[:, 2].min() > 0
    out, teeth = tongue.rest + moves, part(rig, "lower_teeth").rest
    edge = teeth[teeth[:, 2] > np.quantile(teeth[:, 2], 0.9)]
    over = out[(out[:, 2] > edge[:, 2].min()) & (out[:, 2] < edge[:, 2].max() + 0.008)]
    assert len(over)
    assert over[:, 1].min() > edge[:, 1].max() - 0.0005  # over the teeth, both in the jaw's space
    skin = np.unique(np.array(rig.skin_faces))
    assert not rig.morphs[rig.morph_names.index("tongueOut")][: len(rig.rest) - 506].any()
    assert len(skin) == 8608


def test_an_animation_moves_the_parts_with_the_skin(face: Face) -> None:
    rig = face.rig(neutral=True)
    weights = np.zeros((3, len(rig.morph_names)), np.float32)
    weights[:, rig.morph_names.index("jawForward")] = [0, 0.5, 1]
    weights[:, rig.morph_names.index("eyeLookOutLeft")] = [0, 0.5, 1]
    animation = Animation(np.arange(3) / 25, weights, {"left_eye": np.tile(np.eye(3), (3, 1, 1))})
    document = pygltflib.GLTF2.load_from_bytes(animated_glb_bytes(face.riggable_mesh(neutral=True), rig, animation))
    rows = {}
    for channel in document.animations[0].channels:
        if channel.target.path == "weights":
            mesh = document.meshes[document.nodes[channel.target.node].mesh]
            values = read_accessor(document, document.animations[0].samplers[channel.sampler].output)
            rows[mesh.name] = dict(zip(mesh.extras["targetNames"], values.reshape(3, -1).T, strict=True))
    np.testing.assert_allclose(rows["lower_teeth"]["jawForward"], [0, 0.5, 1])
    np.testing.assert_allclose(rows["tongue"]["jawForward"], [0, 0.5, 1])
    assert "left_eye" not in rows  # its joint has the keyframes
    assert rows["face"]["eyeLookOutLeft"][2] == 1


def test_heads_without_parts_stay_in_one_piece() -> None:
    face = stand_in_model(HeadModel(toy_head_data())).reconstruct(photo_with_marks((60, 40, 40)))[0]
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(face.riggable_mesh(), face.rig()))
    assert len(document.meshes) == len(document.materials) == 1
    assert face.iris_colour(photo_with_marks((60, 40, 40))) is None


@pytest.mark.parametrize("colour", [(88, 58, 40), (104, 134, 158)], ids=["brown", "blue"])
@pytest.mark.parametrize("pupil", [0.4, 0.55, 0.7], ids=["bright room", "dim room", "dark room"])
def test_irises_have_the_photos_colour_whatever_its_light(
    face: Face, colour: tuple[int, int, int], pupil: float
) -> None:
    camera = FaceCamera(np.array([7.0, 0, 0, 0, 0, 0, 0]), Crop((300.0, 300.0), 600.0), (600, 600))
    calm = face.parameters.replace(expression=torch.zeros_like(face.parameters.expression), jaw=torch.zeros(3))
    looking = replace(face, camera=camera, parameters=calm)
    tint = np.array([0.75, 0.62, 0.5])  # warm and dim, in linear light

    def lit(srgb: tuple[int, int, int]) -> np.ndarray:
        light = (np.array(srgb) / 255) ** 2.2 * tint
        return np.rint(light ** (1 / 2.2) * 255).astype(np.uint8)

    maps = looking.maps()
    labels = maps.on_photo(maps.parts)
    photo = np.full((600, 600, 3), lit((210, 170, 150)), np.uint8)
    columns, rows = np.meshgrid(np.arange(600) + 0.5, np.arange(600) + 0.5)
    for name, region in (("left_eye", "left_eyeball"), ("right_eye", "right_eyeball")):
        eye = looking.vertices[face.head.data.regions[region]]
        x, y = camera.project(eye[[int(np.argmax(eye[:, 2]))]])[0] + [3, 1]  # a little off what the model says
        inside = labels == PARTS.index(name)
        photo[inside] = lit((236, 229, 222))
        away = np.hypot(columns - x, rows - y)
        photo[inside & (away < 12.5)] = lit(colour)
        photo[inside & (away < 12.5 * pupil)] = 10
    found = iris_of_photo(looking, photo)
    assert found is not None
    np.testing.assert_allclose(found.astype(float), colour, atol=14)
    shut = face.parameters.expression.clone()
    shut[[face.head.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 1
    assert iris_of_photo(replace(looking, parameters=calm.replace(expression=shut)), photo) is None


def test_what_lies_deep_in_the_mouth_is_dark_in_every_player(face: Face) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(face.riggable_mesh(), face.rig()))
    shaded = set()
    for mesh in document.meshes:
        attributes = mesh.primitives[0].attributes
        if attributes.COLOR_0 is None:
            continue
        shaded.add(mesh.name)
        assert document.accessors[attributes.COLOR_0].normalized
        colour = read_accessor(document, attributes.COLOR_0).astype(float) / 255
        depth = read_accessor(document, attributes.POSITION)[:, 2]
        front, back = depth > np.quantile(depth, 0.98), depth < np.quantile(depth, 0.1)
        assert colour[front, :3].min() > 0.7, mesh.name
        assert colour[back, :3].max() < 0.4, mesh.name
        assert (colour[:, 3] == 1).all()
    assert shaded == {"upper_teeth", "lower_teeth", "tongue"}


def test_skin_where_the_lids_do_not_fit_is_no_iris(face: Face) -> None:
    """Behind glasses, or under a raised lid that is predicted too low, skin lies where the iris should be."""
    camera = FaceCamera(np.array([7.0, 0, 0, 0, 0, 0, 0]), Crop((300.0, 300.0), 600.0), (600, 600))
    calm = face.parameters.replace(expression=torch.zeros_like(face.parameters.expression), jaw=torch.zeros(3))
    looking = replace(face, camera=camera, parameters=calm)
    maps = looking.maps()
    labels = maps.on_photo(maps.parts)
    columns, rows = np.meshgrid(np.arange(600) + 0.5, np.arange(600) + 0.5)

    def found(iris: tuple[int, int, int]) -> np.ndarray | None:
        photo = np.full((600, 600, 3), (205, 165, 140), np.uint8)
        for name, region in (("left_eye", "left_eyeball"), ("right_eye", "right_eyeball")):
            eye = looking.vertices[face.head.data.regions[region]]
            x, y = camera.project(eye[[int(np.argmax(eye[:, 2]))]])[0]
            inside = labels == PARTS.index(name)
            photo[inside] = (240, 235, 230)
            photo[inside & (np.hypot(columns - x, rows - y) < 12.5)] = iris
        return iris_of_photo(looking, photo)

    assert found((196, 158, 134)) is None  # skin in the shade
    pale = found((126, 152, 172))  # the lightest blue
    assert pale is not None
    assert pale[2] > pale[0]


def test_the_white_of_an_eye_is_darker_towards_its_corners() -> None:
    texture = eye_material(np.array([90, 60, 40], np.uint8)).texture.astype(int)
    middle = len(texture) // 2

    def white(angle: float) -> int:
        return int(texture[middle, middle + round(middle * np.sqrt(np.radians(angle) / np.pi)), 1])

    assert 190 < white(25) < 215  # no glare beside skin
    assert white(55) < 0.82 * white(25)
    assert white(22.2) > 2 * white(12)  # and still much lighter than the iris


def test_a_damaged_file_of_parts_is_one_line(head: HeadModel, tmp_path: Path, monkeypatch) -> None:
    from tokenface.errors import HeadModelError
    from tokenface.head import parts

    (tmp_path / "openhead_parts.safetensors").write_bytes(b"nothing")
    monkeypatch.setattr(parts, "shipped_folder", lambda: tmp_path)
    with pytest.raises(HeadModelError, match=r"parts .* are damaged"):
        parts.head_parts(head.data)
