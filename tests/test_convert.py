"""Faces cross between head models: parameters come back, cameras still see the same face, files say what was lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from tokenface.errors import DataError, HeadModelError, OutputError, TokenFaceError
from tokenface.formats.obj import write_obj
from tokenface.formats.parameters import read_parameters
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.geometry.similarity import Similarity
from tokenface.head.arkit import from_arkit, to_arkit
from tokenface.head.data import HeadData
from tokenface.head.fitting import similarity_motion
from tokenface.head.model import HeadModel
from tokenface.head.registry import heads_folder, load_head
from tokenface.images.loading import ImageItem
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Face, Origin
from tokenface.jobs.convert import ConvertOptions, convert_file
from tokenface.parameters import FaceParameters
from tokenface.retarget.converter import HeadConverter, Performance, posed
from tokenface.retarget.correspondence import correspondence, correspondence_folder
from tokenface.retarget.solver import ParameterSolver, _stepped, bounded_minimum

SIZE = 1.06


@pytest.fixture(scope="module")
def openhead() -> HeadModel:
    return load_head("openhead")


def stranger(source: HeadData) -> HeadData:
    """The same head as somebody else's model: other vertex order, size and origin, another identity basis, and
    expressions that mix the actions without ARKit's names or bounds, as FLAME's do."""
    random = np.random.default_rng(0)
    order = random.permutation(len(source.template))
    number = np.argsort(order).astype(np.int32)
    turn = np.linalg.qr(random.normal(size=(len(source.expression_basis),) * 2))[0]
    modes = len(source.shape_basis)
    joints = source.joint_basis.astype(np.float64)
    mixed_joints = np.concatenate([joints[:modes], np.tensordot(turn, joints[modes:], 1)])
    return replace(
        source,
        name="stranger",
        template=((source.template[order] * SIZE) + [0.0, 0.02, -0.01]).astype(np.float32),
        faces=number[source.faces],
        shape_basis=(source.shape_basis[:, order].astype(np.float32) * SIZE),
        expression_basis=(np.tensordot(turn, source.expression_basis, 1)[:, order] * SIZE).astype(np.float32),
        expression_names=tuple(f"expression{i:03d}" for i in range(len(turn))),
        expression_range=None,
        joint_template=(source.joint_template * SIZE + [0.0, 0.02, -0.01]).astype(np.float32),
        joint_basis=(mixed_joints * SIZE).astype(np.float32),
        skinning_weights=source.skinning_weights[order],
        mirror=number[source.mirror[order]],
        eye_drive=None,
        regions={name: np.sort(number[rows]) for name, rows in source.regions.items()},
    )


@pytest.fixture(scope="module")
def other(openhead, tmp_path_factory) -> HeadModel:
    """Installed in a user's folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENFACE_DATA", str(tmp_path_factory.mktemp("user")))
        data = stranger(openhead.data)
        data.save(heads_folder() / "stranger.safetensors")
        yield load_head("stranger")


@pytest.fixture(scope="module")
def performance(openhead) -> Performance:
    random = np.random.default_rng(1)
    shape = 0.8 * random.normal(size=openhead.sizes.shape)
    names = np.array(openhead.expression_names)
    used = ~np.char.startswith(names, "eyeLook") & (names != "mouthClose")
    expression = (random.random((6, len(names))) < 0.12) * random.random((6, len(names))) * used
    jaw = np.column_stack([0.4 * random.random(6), 0.08 * random.normal(size=6).clip(-1, 1), np.zeros(6)])
    return Performance(shape, expression, jaw)


def test_a_placement_is_undone_and_moves_as_its_derivative_says():
    random = np.random.default_rng(2)
    place = Similarity(1.3, Rotation.random(random_state=0).as_matrix(), random.normal(size=3))
    points = random.normal(size=(9, 3))
    np.testing.assert_allclose(place.undo(place.apply(points)), points, atol=1e-12)
    step = 1e-5 * random.normal(size=7)
    given = place.apply(points)
    np.testing.assert_allclose(_stepped(place, step).undo(given) - points, similarity_motion(points) @ step, atol=1e-8)


def test_the_bounded_minimum_is_scipys():
    random = np.random.default_rng(3)
    matrix, values = random.normal(size=(40, 12)), random.normal(size=40) * 3
    low, high = -random.random(12), random.random(12)
    ours = bounded_minimum(matrix.T @ matrix, matrix.T @ values, low, high)
    np.testing.assert_allclose(ours, lsq_linear(matrix, values, (low, high), tol=1e-12).x, atol=1e-5)


def test_a_heads_own_vertices_give_its_parameters_back(openhead, performance):
    solver = ParameterSolver(openhead, np.ones(openhead.vertex_count))
    vertices = posed(openhead, performance)
    expression, jaw = solver.performance(performance.shape, vertices)
    assert np.abs(expression - performance.expression).mean() < 0.01
    assert np.abs(jaw - performance.jaw).max() < 0.005
    place = Similarity(1000.0, Rotation.from_rotvec([0.3, -0.8, 0.2]).as_matrix(), np.array([50.0, -20, 700]))
    found = solver.person(place.apply(vertices[0]), neutral=False)
    again = posed(openhead, Performance(found.shape, found.expression[None], found.jaw[None]))[0]
    error = np.linalg.norm(found.place.apply(again) - place.apply(vertices[0]), axis=1)  # millimetres
    assert error[openhead.data.regions["face"]].mean() < 0.5
    assert found.place.scale == pytest.approx(1000, rel=0.03)


def test_parameters_cross_to_a_strange_head_and_back(openhead, other, performance):
    there = HeadConverter(openhead, other).convert(performance)
    assert max(there.neutral_mm[r] for r in ("face", "lips", "nose")) < 0.5
    assert max(there.posed_mm[r] for r in ("face", "lips", "nose")) < 0.6
    assert there.place.scale == pytest.approx(1 / SIZE, rel=0.04)
    back = HeadConverter(other, openhead).convert(there.performance)
    weights = [
        to_arkit(openhead, *(torch.from_numpy(a).float() for a in (p.expression, p.jaw))).numpy()
        for p in (performance, back.performance)
    ]
    assert np.abs(weights[0]).mean() > 0.04
    assert np.abs(weights[0] - weights[1]).mean() < 0.015
    returned = there.place.apply(back.place.apply(posed(openhead, back.performance)))
    error = 1000 * np.linalg.norm(returned - posed(openhead, performance), axis=2)
    assert error[:, openhead.data.regions["face"]].mean() < 0.8


def test_the_correspondence_is_made_once_and_survives_damage(openhead, other, monkeypatch):
    first = correspondence(other.data, openhead.data)
    (path,) = correspondence_folder().glob("*.npz")
    assert openhead.data.geometry_hash() in path.name
    assert other.data.geometry_hash() in path.name
    skin = first.trust > 0.9
    laid = first.carry(openhead.data.template.astype(np.float64))
    apart = np.linalg.norm(laid * SIZE + [0.0, 0.02, -0.01] - other.data.template, axis=1)
    assert skin.mean() > 0.5
    assert np.median(apart[skin]) < 0.0005
    monkeypatch.setattr("tokenface.retarget.correspondence.register", None)  # not needed again
    second = correspondence(other.data, openhead.data)
    np.testing.assert_array_equal(first.corners, second.corners)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(correspondence(other.data, openhead.data).corners, first.corners)
    assert correspondence(openhead.data, openhead.data).trust.min() == 1


def test_arkit_shapes_of_the_jaw_do_not_open_it_twice(openhead):
    class Ict:
        name = "ict"
        expression_names = (*openhead.expression_names, "jawOpen", "jawLeft", "jawRight")

    weights = torch.rand(4, 52, generator=torch.Generator().manual_seed(0))
    weights[:, 51] = 0  # the tongue
    expression, jaw = from_arkit(Ict(), weights)
    assert not jaw.any()
    torch.testing.assert_close(to_arkit(Ict(), expression, jaw), weights)


def make_face(head: HeadModel, performance: Performance) -> Face:
    vector = np.array([8.0, 0.1, -0.4, 0.05, 0.1, -0.2, 0.0])
    parameters = FaceParameters(
        shape=torch.from_numpy(performance.shape).float(),
        expression=torch.from_numpy(performance.expression[0]).float(),
        jaw=torch.from_numpy(performance.jaw[0]).float(),
        camera=torch.from_numpy(vector).float(),
        texture=torch.zeros(head.sizes.texture),
        light=torch.zeros(27),
    )
    camera = FaceCamera(vector, Crop((300.0, 260.0), 240.0, 0.2), (480, 640))
    origin = Origin("test", "0" * 16, head.data.geometry_hash())
    confidence_features = ConfidenceFeatures(1.0, 1.0, 1.0, 1.0, 1.0)
    return Face(
        parameters, camera, np.array([0.0, 0, 9, 9]), confidence_features, head, ImageItem("a.png", "a.png"), origin
    )


def test_a_converted_photo_shows_the_same_face_in_the_same_place(openhead, other, performance, tmp_path):
    face = make_face(openhead, performance)
    face.save(tmp_path / "parameters.json")
    result = convert_file(tmp_path / "parameters.json", "stranger", tmp_path / "out")
    names = sorted(path.name for path in result.files)
    assert names == ["conversion.json", "face_00.glb", "parameters.json"]
    document = read_parameters(tmp_path / "out/parameters.json")
    found = Face.from_dict(document["faces"][0], document, other)
    apart = np.linalg.norm(found.landmarks - face.landmarks, axis=1) / face.camera.pixels_per_metre * 1000
    assert apart.mean() < 1.5  # millimetres on the face
    lens = face.camera.pinhole(900.0, face.landmarks3d.mean(0))
    seen = replace(face, camera=replace(face.camera, lens=lens))
    seen.save(tmp_path / "lens.json")
    convert_file(tmp_path / "lens.json", "stranger", tmp_path / "lens", ConvertOptions(formats=("json",)))
    document = read_parameters(tmp_path / "lens/parameters.json")
    found = Face.from_dict(document["faces"][0], document, other)
    apart = np.linalg.norm(found.landmarks - seen.landmarks, axis=1) / face.camera.pixels_per_metre * 1000
    assert apart.mean() < 1.5
    report = json.loads((tmp_path / "out/conversion.json").read_text())
    assert report["expression_by"] == "shape"
    assert report["faces"][0]["residual_mm"]["posed"]["face"] < 0.6


def test_what_is_converted_is_not_overwritten(openhead, other, performance, tmp_path):
    make_face(openhead, performance).save(tmp_path / "parameters.json")
    before = (tmp_path / "parameters.json").read_bytes()
    with pytest.raises(OutputError, match="would be overwritten"):
        convert_file(tmp_path / "parameters.json", "stranger", tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    (results / ".tokenface.json").write_text("{}", encoding="utf-8")  # a photo's
    with pytest.raises(OutputError, match="would be overwritten"):
        convert_file(tmp_path / "parameters.json", "stranger", results)
    assert (tmp_path / "parameters.json").read_bytes() == before


def test_meshes_and_other_tools_numbers_are_converted(openhead, other, performance, tmp_path):
    face = make_face(openhead, performance)
    write_obj(tmp_path / "mesh.obj", face.textured_mesh())
    result = convert_file(tmp_path / "mesh.obj", "stranger", tmp_path / "mesh", ConvertOptions("openhead"))
    assert result.converted[0].posed_mm["face"] < 0.8
    with np.load(tmp_path / "mesh/parameters.npz", allow_pickle=False) as file:
        there = {name: file[name] for name in file.files}
    # as DECA writes them: no format, pose = global rotation and jaw
    np.savez(
        tmp_path / "deca.npz",
        shape=there["shape"],
        exp=there["expression"],
        pose=np.concatenate([np.zeros((1, 3)), there["jaw"]], axis=1),
    )
    with pytest.raises(DataError, match="--from"):
        convert_file(tmp_path / "deca.npz", "openhead", tmp_path / "deca")
    back = convert_file(tmp_path / "deca.npz", "openhead", tmp_path / "deca", ConvertOptions("stranger")).converted[0]
    with np.load(tmp_path / "deca/parameters.npz", allow_pickle=False) as file:
        assert file["arkit"].shape == (1, 52)
    # mesh, strange head, numbers, own head: what one mesh cannot tell (identity or expression) does not move it
    place = result.converted[0].place
    returned = place.apply(back.place.apply(posed(openhead, back.performance)[0]))
    error = 1000 * np.linalg.norm(returned - face.vertices, axis=1)
    assert error[openhead.data.regions["face"]].mean() < 1.0


def test_what_cannot_be_converted_says_why(openhead, other, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.npz").write_bytes(b"PK")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    shuffled = np.random.default_rng(0).permutation(openhead.data.template)
    rows = "".join(f"v {x} {y} {z}\n" for x, y, z in shuffled)
    (tmp_path / "order.obj").write_text(rows + "f 1 2 3\n")
    for name, message in (
        ("a.txt", "cannot be converted"),
        ("a.npz", "not an .npz"),
        ("a.json", "schema"),
        ("a.obj", "none of the installed"),
        ("order.obj", "another order"),
        ("missing.obj", "cannot read"),
    ):
        with pytest.raises(TokenFaceError, match=message) as caught:
            convert_file(tmp_path / name, "openhead", tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.raises(HeadModelError, match="no ARKit names"):
        HeadConverter(openhead, other, "names")
