"""STL, VRM, units and axes: each read back by a reader that is not the writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from stand_ins import photo_with_marks, stand_in_model
from test_formats import khronos_issues, read_accessor
from toy_head import toy_head_data

from tokenface.errors import ConfigError, OutputError
from tokenface.formats.axes import Axes, chosen_axes
from tokenface.formats.stl import closed
from tokenface.formats.vrm import EXPRESSIONS, EYE_HEIGHT, VrmLicence, write_vrm
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.face import Face

REQUIRED = {
    *("hips", "spine", "head"),
    *(side + bone for side in ("left", "right") for bone in ("UpperLeg", "LowerLeg", "Foot")),
    *(side + bone for side in ("left", "right") for bone in ("UpperArm", "LowerArm", "Hand")),
}
"""Bones that VRM 1.0 asks for."""
PARENTS = {"spine": "hips", "head": "spine", "jaw": "head", "leftEye": "head", "rightEye": "head"} | {
    side + below: above if above in ("hips", "spine") else side + above
    for side in ("left", "right")
    for below, above in (
        *(("UpperLeg", "hips"), ("LowerLeg", "UpperLeg"), ("Foot", "LowerLeg")),
        *(("UpperArm", "spine"), ("LowerArm", "UpperArm"), ("Hand", "LowerArm")),
    )
}
"""Nearest ancestor that VRM 1.0 demands of those that we write."""
PRESETS = {
    *("happy", "angry", "sad", "relaxed", "surprised", "aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft"),
    *("blinkRight", "lookUp", "lookDown", "lookLeft", "lookRight", "neutral"),
}
CHOICES = {
    "avatarPermission": {"onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"},
    "commercialUsage": {"personalNonProfit", "personalProfit", "corporation"},
    "creditNotation": {"required", "unnecessary"},
    "modification": {"prohibited", "allowModification", "allowModificationRedistribution"},
}


@pytest.fixture(scope="module")
def face() -> Face:
    return stand_in_model(load_head("openhead")).reconstruct(photo_with_marks((60, 40, 40)))[0]


@pytest.fixture(scope="module")
def vrm(face: Face, tmp_path_factory) -> Path:
    return face.save(tmp_path_factory.mktemp("vrm") / "me.vrm")


def test_stl_is_a_closed_solid_in_millimetres_that_stands_upright(face: Face, tmp_path: Path) -> None:
    solid = trimesh.load(face.save(tmp_path / "head.stl"))
    assert solid.is_watertight
    assert solid.is_winding_consistent
    expected = face.vertices[:, [0, 2, 1]] * [1000, -1000, 1000]
    bounds = np.array([expected.min(axis=0), expected.max(axis=0)])
    beyond = (solid.bounds - bounds) * [[-1], [1]]  # a round skull, between the vertices
    assert beyond.min() > -1e-3
    assert beyond.max() < 0.4
    assert solid.volume > 1e6  # cubic millimetres: more than a litre
    assert not (tmp_path / "head.stl").read_bytes().startswith(b"solid")


def test_holes_are_closed_each_by_itself() -> None:
    ball = trimesh.creation.icosphere(2)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    heights = vertices[faces][..., 2]
    kept = faces[(heights.max(axis=1) < 0.8) & (heights.min(axis=1) > -0.6)]  # a hole at either end
    assert not trimesh.Trimesh(vertices, kept).is_watertight
    whole = trimesh.Trimesh(*closed(vertices, kept))
    assert whole.is_watertight
    assert whole.is_winding_consistent
    assert 0.7 < whole.volume / ball.volume < 1
    assert closed(vertices, faces)[1] is faces


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_units_and_up_axis_are_those_asked_for(face: Face, tmp_path: Path, suffix: str) -> None:
    path = face.save(tmp_path / f"a.{suffix}", axes=Axes("cm", "z"))
    found = trimesh.load(path, process=False, force="mesh")
    expected = face.vertices[:, [0, 2, 1]] * [100, -100, 100]
    np.testing.assert_allclose(found.bounds, [expected.min(axis=0), expected.max(axis=0)], atol=1e-4)
    assert b"centimetres" in path.read_bytes()[:2000]
    if suffix == "ply":
        found, usual = (trimesh.load(p, process=False) for p in (path, face.save(tmp_path / "b.ply")))
        turned = usual.vertex_normals[:, [0, 2, 1]] * [1, -1, 1]
        np.testing.assert_allclose(found.vertex_normals, turned, atol=1e-4)


def test_other_units_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 'inch' and 'y'"):
        chosen_axes("inch", "y")


def test_a_vrm_keeps_the_rules_of_its_specification(vrm: Path) -> None:
    document = pygltflib.GLTF2().load_binary(str(vrm))
    assert "VRMC_vrm" in document.extensionsUsed
    found = document.extensions["VRMC_vrm"]
    assert found["specVersion"] == "1.0"
    meta = found["meta"]
    assert isinstance(meta["name"], str)
    assert meta["name"]
    assert meta["authors"]
    assert all(isinstance(author, str) and author for author in meta["authors"])
    assert meta["licenseUrl"] == "https://vrm.dev/licenses/1.0/"
    for name, choices in CHOICES.items():
        assert meta[name] in choices, name
    bones = {bone: entry["node"] for bone, entry in found["humanoid"]["humanBones"].items()}
    assert bones.keys() >= REQUIRED
    assert len(set(bones.values())) == len(bones)
    parent = {child: number for number, node in enumerate(document.nodes) for child in node.children or []}
    for bone, ancestor in PARENTS.items():
        node = bones[bone]
        while node is not None and node != bones[ancestor]:
            node = parent.get(node)
        assert node == bones[ancestor], bone
    for bone, node in bones.items():
        rotation = document.nodes[node].rotation
        assert rotation in (None, [0, 0, 0, 1]), bone
        assert document.nodes[node].scale in (None, [1, 1, 1])
    in_scene = set(document.scenes[0].nodes)
    assert not in_scene & set(parent)
    assert {number for number, node in enumerate(document.nodes) if node.mesh is not None} <= in_scene


def test_a_vrms_expressions_point_at_arkits_targets(vrm: Path) -> None:
    document = pygltflib.GLTF2().load_binary(str(vrm))
    expressions = document.extensions["VRMC_vrm"]["expressions"]
    assert set(expressions["preset"]) == PRESETS
    assert set(expressions["custom"]) == set(ARKIT_NAMES)
    for group in expressions.values():
        for name, expression in group.items():
            reached = {}
            for bind in expression["morphTargetBinds"]:
                mesh = document.meshes[document.nodes[bind["node"]].mesh]
                action = mesh.extras["targetNames"][bind["index"]]
                assert 0 < bind["weight"] <= 1
                assert reached.setdefault((mesh.name, action), bind["weight"]) == bind["weight"]
            wanted = EXPRESSIONS.get(name, {name: 1.0} if name != "neutral" else {})
            assert {action: weight for (mesh, action), weight in reached.items() if mesh == "face"} == wanted
    look = expressions["preset"]["lookLeft"]["morphTargetBinds"]
    assert {document.nodes[bind["node"]].name for bind in look} >= {"face", "left_eye", "right_eye"}
    assert document.extensions["VRMC_vrm"]["lookAt"]["type"] == "expression"


def test_a_vrm_stands_on_the_ground_and_is_relaxed(vrm: Path, face: Face) -> None:
    document = pygltflib.GLTF2().load_binary(str(vrm))
    places: dict[int, np.ndarray] = {}

    def visit(node: int, above: np.ndarray) -> None:
        places[node] = above + np.array(document.nodes[node].translation or [0, 0, 0])
        for child in document.nodes[node].children or []:
            visit(child, places[node])

    for node in document.scenes[0].nodes:
        visit(node, np.zeros(3))
    bones = document.extensions["VRMC_vrm"]["humanoid"]["humanBones"]
    eye = places[bones["leftEye"]["node"]]
    np.testing.assert_allclose(eye, face.rig(neutral=True).joints[3] + [0, EYE_HEIGHT, 0], atol=1e-6)
    assert 0 < places[bones["leftFoot"]["node"]][1] < 0.15
    skin = document.skins[0]
    bind = read_accessor(document, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    for joint, matrix in zip(skin.joints, bind, strict=True):  # every joint lifts the mesh by the same
        np.testing.assert_allclose(places[joint] + matrix[:3, 3], [0, EYE_HEIGHT, 0], atol=1e-6)
    assert not any(any(mesh.weights or []) for mesh in document.meshes)


def test_a_vrms_licence_is_the_persons_choice_and_strict_by_default(face: Face, tmp_path: Path) -> None:
    licence = VrmLicence(name="Ada", authors=("Ada L.",), copyright="Ada", redistribution=True, credit="unnecessary")
    path = write_vrm(tmp_path / "a.vrm", face.riggable_mesh(True), face.rig(True), licence)
    meta = pygltflib.GLTF2().load_binary(str(path)).extensions["VRMC_vrm"]["meta"]
    assert (meta["name"], meta["authors"], meta["copyrightInformation"]) == ("Ada", ["Ada L."], "Ada")
    assert meta["allowRedistribution"] is True
    assert meta["avatarPermission"] == "onlyAuthor"
    assert meta["modification"] == "prohibited"


def test_a_head_without_arkit_cannot_be_a_vrm(tmp_path: Path) -> None:
    other = stand_in_model(HeadModel(toy_head_data())).reconstruct(photo_with_marks((60, 40, 40)))[0]
    with pytest.raises(OutputError, match="use OpenHead"):
        other.save(tmp_path / "a.vrm")


def test_khronos_validator_finds_no_error_in_a_vrm(vrm: Path) -> None:
    issues = khronos_issues(vrm)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_a_relaxed_head_can_be_printed(face: Face, tmp_path: Path) -> None:
    calm = replace(face, parameters=face.parameters.replace(jaw=torch.zeros(3)))
    relaxed = trimesh.load(calm.save(tmp_path / "n.stl", neutral=True))
    beyond = relaxed.extents[2] - np.ptp(calm.neutral_vertices[:, 1]) * 1000
    assert -1e-3 < beyond < 0.4
