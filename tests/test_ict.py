"""ICT-FaceKit as a head model: the files' own geometry, and joints that reproduce its own shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tokenface.errors import HeadModelError
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head import HeadData, HeadModel, add_head, load_head
from tokenface.head.ict import ATLAS, CENTIMETRE, KEPT, PARTS, SKIN_POLYGONS, arkit_expressions, build_ict, load_ict
from tokenface.head.ict_files import read_ict
from tokenface.head.registration import landmarks68, register
from tokenface.head.transfer import transfer_mesh468, transfer_regions

MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def npz(shared_data):
    path = shared_data / "ict_facekit.npz"
    if not path.is_file():
        pytest.skip("ict_facekit.npz is not in the shared data")
    return path


@pytest.fixture(scope="module")
def files(npz):
    with np.load(npz) as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="module")
def data(npz) -> HeadData:
    return load_ict([npz])


@pytest.fixture(scope="module")
def head(data) -> HeadModel:
    return HeadModel(data)


def weights(head: HeadModel, **actions: float) -> torch.Tensor:
    expression = torch.zeros(1, head.sizes.expression)
    for name, value in actions.items():
        expression[0, head.expression_names.index(name)] = value
    return expression


def test_metres_flame_axes_and_the_files_own_distances(data, files):
    moved = data.template - files["vertices"][:KEPT] * CENTIMETRE
    assert np.ptp(moved, axis=0).max() < 1e-6  # one shift for all, no turn, no scale
    points = landmarks68(data)
    assert points[45, 0] > points[36, 0]  # the subject's left is at +x
    assert points[27, 1] > points[8, 1]  # up is +y
    assert points[30, 2] > points[0, 2]  # the nose is at +z
    assert 0.08 < points[45, 0] - points[36, 0] < 0.10  # metres
    np.testing.assert_allclose(points[17:], data.template[files["landmarks68"][17:]], atol=1e-7)


def test_identity_modes_are_the_files(head, files):
    coefficients = np.random.default_rng(0).normal(size=100)
    ours = head(torch.tensor(coefficients[None], dtype=torch.float32)).vertices[0].numpy()
    offsets = np.tensordot(coefficients, files["identity"][:, :KEPT].astype(np.float64), 1) * CENTIMETRE
    np.testing.assert_allclose(ours - head.template.numpy(), offsets, atol=0.01 * MILLIMETRE)


def test_triangles_cover_the_quads_and_face_outwards(data, files):
    polygons = files["quads"][:24692]
    triangles = (polygons[:, 2] == polygons[:, 3]).sum()
    assert len(data.faces) == 2 * len(polygons) - triangles
    normals = mesh_normals(data.template.astype(float), data.faces)
    for index, direction in ((files["landmarks68"][30], (0, 0, 1)), (files["landmarks68"][8], (0, -1, 0))):
        assert normals[index] @ direction > 0.5
    ball = np.arange(*PARTS["left_eyeball"])[:700]  # the outer shell
    outward = data.template[ball] - data.joint_template[3]
    assert ((normals[ball] * outward).sum(1) > 0).mean() > 0.99


def test_arkit_names_and_ranges(data):
    assert len(data.expression_names) == 51
    assert {"jawOpen", "eyeBlinkLeft", "browInnerUp", "cheekPuff", "mouthSmileRight"} <= set(data.expression_names)
    assert not any("_" in name for name in data.expression_names)
    assert data.expression_range == (0.0, 1.0)


def test_the_two_halves_of_a_single_action_are_added():
    offsets = np.zeros((6, 2, 3))
    offsets[0, 0], offsets[1, 1] = 1, 2
    names = ("browInnerUp_L", "browInnerUp_R", "jawOpen", "eyeLookIn_L", "eyeLookUp_R", "eyeBlink_R")
    merged, result = arkit_expressions(names, offsets)
    assert merged == ("browInnerUp", "jawOpen", "eyeLookInLeft", "eyeLookUpRight", "eyeBlinkRight")
    np.testing.assert_array_equal(result[0], [[1, 1, 1], [2, 2, 2]])
    with pytest.raises(HeadModelError, match="lacks the expression"):
        arkit_expressions(("mouthLeft",), np.zeros((1, 2, 3)))


def test_the_jaw_joint_opens_the_mouth_as_jaw_open_does(head):
    angle = np.radians(float(head.data.facts["jaw"].split()[-2]))
    by_shape = head(expression=weights(head, jawOpen=1)).vertices
    by_joint = head(jaw=torch.tensor([[angle, 0, 0]], dtype=torch.float32)).vertices
    assert (by_shape - head.template).norm(dim=-1).max() > 40 * MILLIMETRE
    assert (by_shape - by_joint).norm(dim=-1).max() < 0.2 * MILLIMETRE  # the angle is printed to 0.1°
    # between, the joint turns the teeth rigidly where the shape cuts across the arc
    half = head(jaw=torch.tensor([[angle / 2, 0, 0]], dtype=torch.float32)).vertices[0]
    first, last = PARTS["lower_teeth"]
    teeth, moved = head.template[first : last + 1 : 40], half[first : last + 1 : 40]
    torch.testing.assert_close(torch.cdist(teeth, teeth), torch.cdist(moved, moved), atol=0.2 * MILLIMETRE, rtol=0)


def test_upper_teeth_and_skull_stay_when_the_jaw_turns(head):
    moved = head(jaw=torch.tensor([[0.3, 0.05, 0.0]])).vertices[0] - head.template
    first, last = PARTS["upper_teeth"]
    assert moved[first : last + 1].abs().max() < 0.01 * MILLIMETRE
    assert moved[head.template[:, 1] > 0.05].norm(dim=1).max() < 1.0 * MILLIMETRE  # jawOpen stretches the temples a bit


def test_eyeballs_turn_about_their_centres_towards_the_named_side(head):
    first, last = PARTS["left_eyeball"]
    ball = head.template[first : last + 1]
    front = int(ball[:, 2].argmax()) + first
    for name, axis, sign in (("Out", 0, 1), ("In", 0, -1), ("Up", 1, 1), ("Down", 1, -1)):
        moved = head(expression=weights(head, **{f"eyeLook{name}Left": 1.0})).vertices[0]
        step = moved[front] - head.template[front]
        assert step[axis] * sign > 5 * MILLIMETRE, name
        distances = (moved[first : last + 1] - head.joint_template[3]).norm(dim=1)
        before = (ball - head.joint_template[3]).norm(dim=1)
        torch.testing.assert_close(distances, before, atol=0.02 * MILLIMETRE, rtol=0)
        other = slice(PARTS["right_eyeball"][0], PARTS["right_eyeball"][1] + 1)
        assert (moved[other] - head.template[other]).abs().max() < 0.02 * MILLIMETRE


def test_eye_joints_follow_the_identity(head):
    """The centre of the moved sclera, fitted anew, is where the joint says."""
    shape = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    mesh = head(shape)
    for joint, sclera in ((3, slice(21451, 22221)), (4, slice(23021, 23791))):
        for face in range(4):
            points = mesh.vertices[face, sclera].numpy().astype(float)
            fit = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0][:3]
            assert np.linalg.norm(mesh.joints[face, joint].numpy() - fit) < 1.0 * MILLIMETRE


def test_mirror_map_is_an_involution_and_pairs_reflections(data):
    np.testing.assert_array_equal(data.mirror[data.mirror], np.arange(KEPT))
    apart = np.linalg.norm(data.template * [-1, 1, 1] - data.template[data.mirror], axis=1)
    assert apart.max() < 0.4 * MILLIMETRE


def test_contour_slides_forward_on_the_far_side_and_rests_on_the_near_side(head):
    rest = head.landmarks68(head.template[None])[0, :17]
    for sign, far, near in ((1, slice(10, 17), slice(0, 8)), (-1, slice(0, 7), slice(9, 17))):
        points = head.landmarks68(head.template[None], torch.tensor([sign * 0.7]))[0, :17]
        torch.testing.assert_close(points[near], rest[near])
        assert ((points - rest)[far, 2] > 8 * MILLIMETRE).all()


def test_texture_atlas_keeps_the_materials_apart(data):
    assert data.uv.min() >= 0
    assert data.uv.max() <= 1
    centre = data.uv[data.uv_faces].mean(1)
    inside = np.zeros((len(ATLAS), len(centre)), bool)
    for row, (left, bottom, size) in enumerate(ATLAS.values()):
        inside[row] = ((centre >= [left, bottom]) & (centre <= [left + size, bottom + size])).all(1)
    np.testing.assert_array_equal(inside.sum(0), 1)
    names = np.array(list(ATLAS))[inside.argmax(0)]
    eye = (data.faces >= 21451).all(1)
    assert set(names[eye]) == {"left_eye", "left_iris", "right_eye", "right_iris"}
    assert not set(names[~eye]) & {"left_eye", "left_iris", "right_eye", "right_iris"}


def test_regions_are_the_published_ranges(data):
    assert data.regions["face_area"][-1] == 9408
    assert len(data.regions["teeth"]) == 4412
    assert (data.template[data.regions["left_eyeball"], 0] > 0).all()
    assert SKIN_POLYGONS == (0, 11143)


def write_clone(folder, files, expressions, unmoved, identities=2):
    """A clone of the repository with some of its files, in its layout; some expressions move nothing, to save time."""
    model = folder / "FaceXModel"
    model.mkdir(parents=True)
    names = files["expression_names"].tolist()
    layout = {"expressions": [*expressions, *unmoved], "idx_to_landmark_verts": files["landmarks68"].tolist()}
    (model / "vertex_indices.json").write_text(json.dumps(layout))

    def vertices(offset) -> str:
        return "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in files["vertices"] + offset)

    lines = ["# licence\nmtllib ICTFaceModelMaterial.mtl\n", vertices(0.0)]
    lines += [f"vt {u:.6f} {v:.6f}\n" for u, v in files["uv"]]
    for corners, marks in zip(files["quads"] + 1, files["uv_quads"] + 1, strict=True):
        pairs = [f"{a}/{b}" for a, b in zip(corners, marks, strict=True)]
        lines.append("f " + " ".join(pairs[:3] if corners[2] == corners[3] else pairs) + "\n")
    (model / "generic_neutral_mesh.obj").write_text("".join(lines))
    for number in range(identities):
        (model / f"identity{number:03d}.obj").write_text(vertices(files["identity"][number].astype(float)))
    for name in expressions:
        (model / f"{name}.obj").write_text(vertices(files["expression"][names.index(name)].astype(float)))
    for name in unmoved:
        (model / f"{name}.obj").write_text(lines[1])


def test_a_clone_gives_what_the_single_file_gives(files, data, tmp_path):
    looks = [f"eyeLook{way}_{side}" for way in ("In", "Out", "Up", "Down") for side in "LR"]
    write_clone(tmp_path, files, ["jawOpen"], looks)
    source = read_ict([tmp_path])
    np.testing.assert_allclose(source.vertices, files["vertices"], atol=1e-5)
    clone = build_ict(source)
    assert clone.shape_basis.shape[0] == 2
    np.testing.assert_allclose(clone.template, data.template, atol=1e-6)
    np.testing.assert_array_equal(clone.faces, data.faces)
    np.testing.assert_allclose(clone.uv[clone.uv_faces], data.uv[data.uv_faces], atol=1e-5)
    np.testing.assert_allclose(clone.shape_basis, data.shape_basis[:2], atol=1e-6)
    ours = clone.expression_basis[clone.expression_names.index("jawOpen")]
    np.testing.assert_allclose(ours, data.expression_basis[data.expression_names.index("jawOpen")], atol=5e-5)
    assert read_ict([tmp_path / "FaceXModel"]).identity.shape[0] == 2
    (tmp_path / "FaceXModel" / "identity001.obj").write_text("v 0 0 0\n")
    with pytest.raises(HeadModelError, match="has 1 vertices"):
        read_ict([tmp_path])


def test_unusable_paths_are_refused_in_one_line(tmp_path, npz):
    for paths, message in (
        ([tmp_path], "generic_neutral_mesh"),
        ([tmp_path / "nothing"], "generic_neutral_mesh"),
        ([npz, npz], "one path"),
    ):
        with pytest.raises(HeadModelError, match=message) as caught:
            load_ict(paths)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "x.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(HeadModelError, match="lacks"):
        load_ict([tmp_path / "x.npz"])


# ---- carried over from OpenHead --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openhead() -> HeadData:
    return load_head("openhead").data


@pytest.fixture(scope="module")
def moved(data, openhead):
    return register(data, openhead)


def test_registration_lays_landmarks_on_landmarks_and_skin_on_skin(data, openhead, moved):
    from dataclasses import replace

    from scipy.spatial import cKDTree

    laid = replace(data, template=moved)
    assert np.linalg.norm(landmarks68(laid) - landmarks68(openhead), axis=1).max() < 2.5 * MILLIMETRE
    narrow = moved[data.regions["narrow_face_area"]]
    samples = openhead.template[openhead.faces].mean(1)
    distance = cKDTree(np.concatenate([samples, openhead.template])).query(narrow)[0]
    assert np.median(distance) < 2 * MILLIMETRE  # triangles are 4 mm wide
    symmetric = moved[data.mirror] * [-1, 1, 1]
    assert np.median(np.linalg.norm(symmetric - moved, axis=1)) < 0.5 * MILLIMETRE


def test_albedo_regions_and_mesh_points_are_carried_over(npz, openhead, tmp_path, monkeypatch):
    if openhead.albedo_mean is None or "face" not in openhead.regions:
        pytest.skip("the installed OpenHead has no albedo or regions yet")
    monkeypatch.setenv("TOKENFACE_DATA", str(tmp_path))
    add_head("ict", [npz])
    dressed = load_head("ict").data
    assert dressed.albedo_basis.shape[0] == openhead.albedo_basis.shape[0]
    assert "albedo" in dressed.facts["carried over"]
    red = _colour_at(dressed, dressed.regions["lips"])
    skin = _colour_at(dressed, dressed.regions["left_cheek"])
    assert red[0] - red[1] > skin[0] - skin[1]  # lips are redder than cheeks
    np.testing.assert_allclose(skin, _colour_at(openhead, openhead.regions["left_cheek"]), atol=0.04)
    middle = dressed.template[dressed.regions["lips"]].mean(0)
    assert np.linalg.norm(middle - landmarks68(dressed)[48:].mean(0)) < 8 * MILLIMETRE
    ears = dressed.template[dressed.regions["ears"]]
    assert np.abs(ears[:, 0]).min() > 0.05


def _colour_at(head: HeadData, vertices: np.ndarray) -> np.ndarray:
    """Mean albedo over the texture coordinates of some vertices."""
    size = head.albedo_mean.shape[0]
    uv = head.uv[head.uv_faces[np.isin(head.faces, vertices).all(1)]].mean(1)
    rows, columns = ((1 - uv[:, 1]) * size).astype(int), (uv[:, 0] * size).astype(int)
    return head.albedo_mean[rows.clip(0, size - 1), columns.clip(0, size - 1)].astype(float).mean(0)


def test_mesh_points_land_next_to_where_they_came_from(data, openhead, moved):
    source = openhead
    if source.mesh468_faces is None:
        source = _with_mesh468_on_landmarks(openhead)
    result = HeadModel(transfer_mesh468(source, data, moved))
    laid = result.landmarks468(torch.tensor(moved[None], dtype=torch.float32))[0]
    origin = HeadModel(source).landmarks468(torch.tensor(source.template[None]))[0]
    valid = result.mesh468_valid & HeadModel(source).mesh468_valid
    assert valid.sum() >= 51
    assert (laid - origin)[valid].norm(dim=1).quantile(0.9) < 2 * MILLIMETRE


def _with_mesh468_on_landmarks(head: HeadData) -> HeadData:
    from dataclasses import replace

    faces, barycentrics = np.full(468, -1, np.int32), np.zeros((468, 3), np.float32)
    faces[:51], barycentrics[:51] = head.static_landmark_faces, head.static_landmark_barycentrics
    return replace(head, mesh468_faces=faces, mesh468_barycentrics=barycentrics)


def test_regions_transferred_to_the_same_head_are_themselves(openhead):
    if "nose" not in openhead.regions:
        pytest.skip("the installed OpenHead has no regions yet")
    again = transfer_regions(openhead, openhead, openhead.template.astype(float))
    for name in ("nose", "lips", "forehead"):
        ours, theirs = set(again[name].tolist()), set(openhead.regions[name].tolist())
        assert len(ours ^ theirs) <= 0.05 * len(theirs), name
