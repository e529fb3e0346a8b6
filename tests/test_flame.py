"""FLAME files become a HeadData whose forward pass equals the smplx package's, whatever pickled them."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
import trimesh

from tokenface.errors import HeadModelError
from tokenface.geometry.camera import Camera
from tokenface.head import HeadModel, add_head, list_heads, load_head
from tokenface.head.flame import load_flame
from tokenface.head.obj_file import read_obj, triangulate

SHARED = Path(os.environ.get("TOKENFACE_SHARED", Path(__file__).parents[2] / "shared"))
PUBLIC = SHARED / "data" / "flame_public"
needs_public = pytest.mark.skipif(not PUBLIC.is_dir(), reason="FLAME-topology files are in TOKENFACE_SHARED only")


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as 8-bit strings and the module names of that time, as FLAME's authors did."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def _string(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _string

    def save_global(self, value, name=None):
        name = name or value.__qualname__
        module = value.__module__.replace("numpy._core", "numpy.core").replace("scipy.sparse._", "scipy.sparse.")
        module = module.replace("copyreg", "copy_reg")
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(value)

    dispatch[type] = save_global
    dispatch[types.FunctionType] = save_global


def _smooth(points: np.ndarray, modes: int, scale: float, seed: int) -> np.ndarray:
    """[V, 3, modes] random smooth vector fields."""
    rng = np.random.default_rng(seed)
    waves = np.cos(points @ rng.normal(scale=15, size=(3, 24)) + rng.uniform(0, 2 * np.pi, 24))
    return (waves @ rng.normal(scale=scale, size=(24, 3 * modes))).reshape(len(points), 3, modes)


def flame_content(points: np.ndarray, faces: np.ndarray) -> dict:
    """The arrays of a FLAME model over a given mesh: real layout, random numbers."""
    rng = np.random.default_rng(3)
    low, high = points.min(0), points.max(0)
    places = low + (high - low) * np.array(
        [[0.5, 0.0, 0.4], [0.5, 0.3, 0.4], [0.5, 0.4, 0.5], [0.65, 0.6, 0.8], [0.35, 0.6, 0.8]]
    )
    distance = np.linalg.norm(points[None] - places[:, None], axis=2)
    regressor = np.zeros((5, len(points)))
    for joint in range(5):
        near = np.argsort(distance[joint])[:40]
        regressor[joint, near] = rng.dirichlet(np.ones(40))
    weights = np.exp(-((distance / 0.05) ** 2)).T + 1e-6
    return {
        "v_template": points,
        "f": faces.astype(np.uint32),
        "shapedirs": np.concatenate([_smooth(points, 300, 2e-4, 0), _smooth(points, 100, 2e-4, 1)], axis=2),
        "posedirs": _smooth(points, 36, 2e-4, 2),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J": regressor @ points,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


@pytest.fixture(scope="module")
def content():
    if PUBLIC.is_dir():
        mesh = read_obj(PUBLIC / "head_template.obj")
        return flame_content(mesh.vertices - mesh.vertices.mean(0), triangulate(mesh.polygons))
    ball = trimesh.creation.icosphere(subdivisions=3)
    return flame_content(np.asarray(ball.vertices) * [0.08, 0.12, 0.1], np.asarray(ball.faces))


@pytest.fixture(scope="module")
def embedding(content):
    """The public landmark embedding when its topology is there, else points on arbitrary triangles."""
    if PUBLIC.is_dir():
        return np.load(PUBLIC / "landmark_embedding.npy", allow_pickle=True).item()
    rng = np.random.default_rng(4)
    count = len(content["f"])
    return {
        "static_lmk_faces_idx": rng.integers(0, count, 51),
        "static_lmk_bary_coords": rng.dirichlet(np.ones(3), 51),
        "dynamic_lmk_faces_idx": torch.tensor(rng.integers(0, count, (79, 17))),
        "dynamic_lmk_bary_coords": torch.tensor(rng.dirichlet(np.ones(3), (79, 17)), dtype=torch.float32),
    }


@pytest.fixture(scope="module")
def download(content, embedding, tmp_path_factory):
    """A folder as a user has it: the model pickled by Python 2 with chumpy arrays, and the landmarks."""
    folder = tmp_path_factory.mktemp("FLAME2020")
    write_chumpy_pickle(folder / "generic_model.pkl", content)
    np.save(folder / "landmark_embedding.npy", np.array(embedding, dtype=object), allow_pickle=True)
    return folder


def write_chumpy_pickle(path: Path, content: dict) -> None:
    class Ch:
        def __init__(self, x):
            self.x, self._dirty_vars, self._itr = x, {"x"}, None

    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    Ch.__module__, Ch.__qualname__, module.Ch = "chumpy.ch", "Ch", Ch
    before = {name: sys.modules.get(name) for name in ("chumpy", "chumpy.ch")}
    sys.modules.update({"chumpy": package, "chumpy.ch": module})
    chumpy_keys = ("v_template", "shapedirs", "posedirs", "weights")
    wrapped = {k: Ch(v) if k in chumpy_keys else v for k, v in content.items()}
    try:
        with path.open("wb") as file:
            Python2Pickler(file).dump(wrapped)
    finally:
        for name, value in before.items():
            sys.modules.pop(name) if value is None else sys.modules.__setitem__(name, value)


@pytest.fixture(scope="module")
def data(download):
    return load_flame([download])


@pytest.fixture(scope="module")
def head(data):
    return HeadModel(data)


@pytest.fixture(scope="module")
def reference(content, embedding, tmp_path_factory):
    """The smplx package's FLAME on the same numbers."""
    smplx = pytest.importorskip("smplx")
    folder = tmp_path_factory.mktemp("smplx")
    plain = {k: v.astype(np.int64) if k in ("f", "kintree_table") else v for k, v in content.items()}
    (folder / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(plain, protocol=4))
    static = {
        "lmk_face_idx": np.asarray(embedding["static_lmk_faces_idx"]),
        "lmk_b_coords": np.asarray(embedding["static_lmk_bary_coords"]),
    }
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static))
    return smplx.FLAME(str(folder), num_betas=300, num_expression_coeffs=100, use_face_contour=False)


def test_the_test_file_really_refers_to_chumpy(download):
    written = (download / "generic_model.pkl").read_bytes()
    assert b"cchumpy.ch\nCh\n" in written
    assert b"cscipy.sparse.csc\ncsc_matrix\n" in written
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in written
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(written, encoding="latin1")


@pytest.mark.parametrize("seed", range(4))
def test_forward_pass_equals_smplx(head, reference, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*size, generator=generator) * scale

    shape, expression = normal(3, 300), normal(3, 100)
    jaw, neck, eyes = normal(3, 3, scale=0.3), normal(3, 3, scale=0.3), normal(3, 2, 3, scale=0.3)
    with torch.no_grad():
        ours = head(shape, expression, jaw, neck=neck, eyes=eyes)
        theirs = reference(
            betas=shape,
            expression=expression,
            jaw_pose=jaw,
            neck_pose=neck,
            leye_pose=eyes[:, 0],
            reye_pose=eyes[:, 1],
            global_orient=torch.zeros(3, 3),
            transl=torch.zeros(3, 3),
        )
    spread = (theirs.vertices - head.template).abs().max()
    assert spread > 0.01  # the comparison is about something
    assert (ours.vertices - theirs.vertices).abs().max() <= 1e-5
    static = head.landmarks68(ours.vertices)[:, 17:]
    assert (static - theirs.joints[:, 5:56]).abs().max() <= 1e-5


def test_axis_of_each_mode_and_pose_corrective_is_kept(data, content):
    np.testing.assert_allclose(data.shape_basis[7], content["shapedirs"][:, :, 7], atol=1e-8)
    np.testing.assert_allclose(data.expression_basis[2], content["shapedirs"][:, :, 302], atol=1e-8)
    np.testing.assert_allclose(data.pose_basis[35], content["posedirs"][:, :, 35], atol=1e-8)
    np.testing.assert_allclose(data.joint_template, content["J"], atol=1e-7)


def published_row(rotation: np.ndarray) -> int:
    """The rule as published, step by step: whole degrees of the head's yaw → row of the 79-row table."""
    y = np.degrees(np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0])))
    y = int(np.round(min(y, 39.0)))
    if y < -39:
        return 78
    if y < 0:
        return 39 - y
    return y


@pytest.mark.parametrize("roll", [0, 25, 180])
def test_moving_contour_follows_the_published_rule_at_every_degree(head, content, embedding, roll):
    faces, points = content["f"].astype(int), content["v_template"]
    rows = np.asarray(embedding["dynamic_lmk_faces_idx"])
    weights = np.asarray(embedding["dynamic_lmk_bary_coords"])
    vertices = torch.tensor(points, dtype=torch.float32)[None]
    seen = set()
    for degrees in range(-60, 61):
        turn = trimesh.transformations.euler_matrix(0, np.radians(degrees), np.radians(roll), axes="sxyz")[:3, :3]
        row = published_row(turn)
        seen.add(row)
        expected = np.einsum("kcd,kc->kd", points[faces[rows[row]]], weights[row])
        rotation = torch.tensor(_rotation_vector(turn), dtype=torch.float32)[None]
        yaw = Camera(torch.ones(1), rotation, torch.zeros(1, 3)).angles()[:, 0]
        ours = head.landmarks68(vertices, yaw)[0, :17].numpy()
        np.testing.assert_allclose(ours, expected, atol=2e-6, err_msg=f"{degrees}°")
    assert seen == set(range(79))


def _rotation_vector(matrix: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


@needs_public
def test_the_contour_of_the_far_cheek_moves_towards_the_viewer(head):
    """A head turned to its left (yaw > 0) hides its left cheek: points 9–16, at x > 0, must slide forward."""
    vertices = head.template[None]
    front, left, right = (head.landmarks68(vertices, torch.tensor([y]))[0, :17] for y in (0.0, 0.6, -0.6))
    assert (front[9:, 0] > 0).all()
    assert (left[9:, 2] - front[9:, 2]).mean() > 0.01
    assert (right[:8, 2] - front[:8, 2]).mean() > 0.01
    assert (left[:8, 2] - front[:8, 2]).mean() < 0.005


@needs_public
def test_public_masks_and_mediapipe_points_are_taken_over(download, content):
    data = load_flame([download, PUBLIC / "FLAME_masks.pkl", PUBLIC / "mediapipe_landmark_embedding.npz"])
    masks = pickle.loads((PUBLIC / "FLAME_masks.pkl").read_bytes(), encoding="latin1")
    for name, vertices in masks.items():
        np.testing.assert_array_equal(data.regions[name], np.unique(vertices))  # the lips name some twice
    assert len(data.regions["eyes"]) == 2 * 546
    assert len(data.regions["ears"]) == 2 * 588
    valid = data.mesh468_faces >= 0
    assert valid.sum() == 105
    points = np.load(PUBLIC / "mediapipe_landmark_embedding.npz")
    where = points["landmark_indices"]
    expected = np.einsum(
        "kcd,kc->kd", content["v_template"][content["f"][points["lmk_face_idx"]].astype(int)], points["lmk_b_coords"]
    )
    model = HeadModel(data)
    assert model.mesh468_valid.sum() == 105
    ours = model.landmarks468(model.template[None])[0].numpy()
    np.testing.assert_allclose(ours[where], expected, atol=1e-6)


@needs_public
def test_template_symmetry_gives_the_mirror_map(data, content):
    mirror = data.mirror
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    reflected = content["v_template"] * [-1, 1, 1]
    assert np.linalg.norm(reflected - content["v_template"][mirror], axis=1).max() < 5e-4
    assert (mirror == np.arange(len(mirror))).sum() < 200  # the midline alone


@needs_public
def test_texture_coordinates_come_from_the_template_mesh(download):
    mesh = read_obj(PUBLIC / "head_template.obj")
    data = load_flame([download, PUBLIC / "head_template.obj"])
    np.testing.assert_allclose(data.uv, mesh.uv, atol=1e-6)
    np.testing.assert_array_equal(data.uv_faces, triangulate(mesh.uv_polygons))


def test_without_a_texture_file_the_seam_is_at_the_back(data, content):
    assert data.uv.min() >= 0
    assert data.uv.max() <= 1
    u = data.uv[data.uv_faces][..., 0]
    front = content["v_template"][content["f"].astype(int)][..., 2].min(1) > 0.02
    assert np.ptp(u[front], axis=1).max() < 0.5


@pytest.mark.parametrize("kind", ["flame", "bfm"])
def test_texture_is_rgb_in_unit_range_and_pooled(download, content, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("tokenface.head.flame_files.ALBEDO_SIZE", 32)
    rng = np.random.default_rng(0)
    side, modes = 64, 60
    mean = rng.uniform(60, 200, (side, side, 3))
    coarse = rng.normal(size=(16, 16, 3, modes)) * 10
    basis = coarse.repeat(side // 16, 0).repeat(side // 16, 1).astype(np.float32)
    faces = content["f"].astype(np.uint32)
    vt = rng.uniform(size=(len(content["v_template"]), 2))
    if kind == "flame":
        path = tmp_path / "FLAME_texture.npz"
        np.savez(path, mean=mean, tex_dir=basis, vt=vt, ft=faces)
    else:
        path = tmp_path / "FLAME_albedo_from_BFM.npz"
        np.savez(path, MU=(mean / 255).ravel(), PC=np.asfortranarray((basis / 255).reshape(-1, modes)), vt=vt, ft=faces)
    data = load_flame([download, path])
    pooled = mean.reshape(32, 2, 32, 2, 3).mean((1, 3))[..., ::-1] / 255
    np.testing.assert_allclose(data.albedo_mean, pooled, atol=1e-6)
    assert data.albedo_basis.shape == (50, 32, 32, 3)
    decoded = data.albedo_basis[37].astype(float) * data.albedo_scale[37]
    expected = basis[::2, ::2, ::-1, 37] / 255
    assert np.abs(decoded - expected).max() <= np.abs(expected).max() / 127
    np.testing.assert_allclose(data.uv, vt, atol=1e-6)
    assert HeadModel(data).sizes.texture == 50


def test_added_model_is_found_by_name_and_evaluates_the_same(download, head, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENFACE_DATA", str(tmp_path))
    lines: list[str] = []
    path = add_head("flame", [download], report=lines.append, complete=False)
    assert path == tmp_path / "heads" / "flame2020.safetensors"
    assert any("sha256" in line for line in lines)
    again = load_head("FLAME2020")
    assert again.name == "flame2020"
    shape = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again(shape).vertices, head(shape).vertices, atol=1e-6, rtol=0)
    entry = next(e for e in list_heads() if e.name == "flame2020")
    assert (entry.where, entry.shape, entry.expression) == ("user", 300, 100)
    assert entry.hash == head.data.geometry_hash()
    assert "Max Planck" in entry.licence
    (tmp_path / "heads" / "broken.safetensors").write_bytes(b"nonsense")
    assert next(e for e in list_heads() if e.name == "broken").problem
    with pytest.raises(HeadModelError, match="did you mean 'flame2020'"):
        load_head("flame2002")
    with pytest.raises(HeadModelError, match="no head model at"):
        load_head(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kintree_table": np.array([[4294967295, 0, 0, 1, 1], [0, 1, 2, 3, 4]])}, "parents"),
        ({"kintree_table": np.zeros((2, 24), int)}, "five joints"),
        ({"posedirs": np.zeros((7, 3, 36))}, "posedirs"),
        ({"weights": None}, "weights"),
        ({"v_template": np.full((9, 3), np.nan)}, "not finite"),
    ],
)
def test_files_of_another_model_are_refused_in_one_line(content, embedding, tmp_path, change, message):
    small = {k: v for k, v in content.items()}
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps({**small, **change}))
    np.save(tmp_path / "landmark_embedding.npy", np.array(embedding, dtype=object), allow_pickle=True)
    with pytest.raises(HeadModelError, match=message) as caught:
        load_flame([tmp_path])
    assert "\n" not in str(caught.value)


def test_body_model_is_refused(content, tmp_path):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps({**content, "shapedirs": content["shapedirs"][:, :, :10]}))
    with pytest.raises(HeadModelError, match="10 shape directions"):
        load_flame([path])


def test_missing_companions_are_named(download, tmp_path):
    with pytest.raises(HeadModelError, match=r"landmark_embedding\.npy"):
        load_flame([download / "generic_model.pkl"])
    with pytest.raises(HeadModelError, match=r"no FLAME model"):
        load_flame([download / "landmark_embedding.npy"])
    with pytest.raises(HeadModelError, match="does not exist"):
        load_flame([tmp_path / "FLAME2023"])
    other = tmp_path / "male_model.pkl"
    other.write_bytes(b"")
    with pytest.raises(HeadModelError, match="both models"):
        load_flame([download / "generic_model.pkl", other])


def test_hostile_model_file_is_refused_through_the_public_door(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps({"v_template": Attack(), "shapedirs": 1}))
    with pytest.raises(HeadModelError, match=r"asks for"):
        add_head("flame", [tmp_path / "generic_model.pkl"], output=tmp_path / "out.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("FLAME2020/generic_model.pkl", "flame2020"),
        ("FLAME2017/male_model.pkl", "flame2017_male"),
        ("x/female_model.pkl", "flame_female"),
        ("x/flame2023.pkl", "flame2023"),
        ("FLAME2023/flame2023_no_jaw.pkl", "flame2023_no_jaw"),
    ],
)
def test_default_name_tells_the_release(path, name, tmp_path):
    from tokenface.head.flame import _name

    assert _name(tmp_path / path) == name
