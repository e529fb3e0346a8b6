"""Photos to heads without torch: the same numbers, and really without."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from needed import needs
from safetensors.numpy import save
from toy_head import toy_head_data

import tokenface
from tokenface.cli import run
from tokenface.cli.needs import need_export, need_runtime
from tokenface.errors import CheckpointError, ConfigError
from tokenface.head.arrays import HeadArrays
from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel
from tokenface.head.registry import head_path
from tokenface.images.loading import load_image
from tokenface.inference.checkpoint import save_checkpoint
from tokenface.inference.checkpoint_facts import FORMAT, read_metadata
from tokenface.inference.face import Face
from tokenface.jobs.photo_model import FEW_PHOTOS, open_model
from tokenface.light import LightModel
from tokenface.model import Reconstructor
from tokenface.network import COMPONENTS, FaceParameters, NetworkConfig, TokenFace
from tokenface.weights import find_weights

needs("onnxruntime", reason="needs the extra 'deploy'")

PORTRAIT = Path(str(resources.files("tokenface"))) / "assets" / "eileen_collins.jpg"
HEAD_SIZE = 0.25
"""Metres: lengths are compared with it."""


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return load_image(str(PORTRAIT))


@pytest.fixture(scope="module")
def landmarks(photo) -> np.ndarray:
    height, width = photo.shape[:2]
    return np.random.default_rng(0).uniform(0.3, 0.6, (68, 2)) * [width, height]


@pytest.fixture(scope="module")
def pair(photo, landmarks) -> tuple[Face, Face]:
    """The face as torch and as onnxruntime with NumPy give it."""
    heavy = tokenface.load(device="cpu", runtime="torch").reconstruct(photo, landmarks=landmarks)[0]
    return heavy, LightModel(threads=1).reconstruct(photo, landmarks=landmarks)[0]


def test_faces_are_those_of_torch(pair) -> None:
    heavy, light = pair
    for name in COMPONENTS:
        assert np.abs(getattr(light.parameters, name) - getattr(heavy.parameters, name).numpy()).max() < 5e-5, name
    assert np.abs(light.vertices - heavy.vertices).max() < 1e-5 * HEAD_SIZE
    assert np.abs(light.neutral_vertices - heavy.neutral_vertices).max() < 1e-5 * HEAD_SIZE
    assert np.abs(light.landmarks - heavy.landmarks).max() < 0.01
    assert np.nanmax(np.abs(light.landmarks468 - heavy.landmarks468)) < 0.01
    assert light.arkit == pytest.approx(heavy.arkit, abs=1e-4)
    assert light.confidence == pytest.approx(heavy.confidence, abs=1e-4)
    assert light.expected_errors == pytest.approx(heavy.expected_errors, rel=1e-3)


def test_documents_are_alike(pair) -> None:
    heavy, light = (face.to_dict() for face in pair)
    assert light.keys() == heavy.keys()
    assert np.allclose(light["camera"]["orthographic"], heavy["camera"]["orthographic"], atol=0.01)
    assert np.allclose(light["camera"]["opencv"]["R"], heavy["camera"]["opencv"]["R"], atol=1e-4)
    assert np.allclose(light["parameters"]["light"], heavy["parameters"]["light"], atol=1e-4)


def test_rigs_and_albedos_are_alike(pair) -> None:
    heavy, light = (face.rig() for face in pair)
    assert light.morph_names == heavy.morph_names
    assert np.abs(light.posed() - heavy.posed()).max() < 1e-5 * HEAD_SIZE
    assert np.abs(light.morphs - heavy.morphs).max() < 1e-5 * HEAD_SIZE
    assert [part.name for part in light.parts] == [part.name for part in heavy.parts]
    assert np.abs(pair[0].albedo.astype(int) - pair[1].albedo).max() <= 1


@pytest.mark.parametrize("name", ["openhead", "toy"])
def test_arrays_pose_a_head_as_tensors_do(name: str) -> None:
    """Wilder than people: every joint and every basis counts."""
    data = HeadData.load(head_path("openhead")) if name == "openhead" else toy_head_data()
    tensors, arrays = HeadModel(data), HeadArrays(data)
    random = np.random.default_rng(3)
    values = {
        "shape": random.normal(size=tensors.sizes.shape),
        "expression": random.uniform(0, 1, tensors.sizes.expression),
        "jaw": random.normal(size=3) * 0.3,
    }
    rest = {"camera": np.zeros(7), "texture": np.zeros(tensors.sizes.texture), "light": np.zeros(27)}
    small = {key: value.astype(np.float32) for key, value in {**values, **rest}.items()}
    ours = FaceParameters(**{key: torch.from_numpy(value) for key, value in small.items()})
    expected = tensors.posed(ours)
    vertices = arrays.posed(FaceParameters(**small))
    size = np.ptp(expected, axis=0).max()
    assert np.abs(vertices - expected).max() < 1e-5 * size
    for yaw in (-1.2, 0.0, 0.4):
        assert np.abs(arrays.points68(vertices, yaw) - tensors.points68(expected, yaw)).max() < 1e-5 * size
    if data.mesh468_faces is not None:
        assert np.array_equal(np.isnan(arrays.points468(vertices)), np.isnan(tensors.points468(expected)))
        assert np.nanmax(np.abs(arrays.points468(vertices) - tensors.points468(expected))) < 1e-5 * size
    assert np.array_equal(
        arrays.clamp_expression(small["expression"] * 3), tensors.clamp_expression(ours.expression * 3).numpy()
    )


WITHOUT = """
import json, sys
for name in ("torch", "timm", "numba", "scipy", "trimesh", "onnx", "onnxscript"):
    sys.modules[name] = None
import numpy as np
from tokenface.light import load
landmarks = np.array(json.load(sys.stdin))
face = load(threads=1).reconstruct(sys.argv[1], landmarks=landmarks)[0]
for suffix in ("glb", "obj", "ply", "json"):
    face.save(f"{sys.argv[2]}/face.{suffix}")
print(json.dumps({"vertices": face.vertices.tolist(), "smile": face.arkit["mouthSmileLeft"]}))
"""


def test_it_runs_where_torch_is_not_installed(pair, landmarks, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(PORTRAIT), str(tmp_path)],
        input=json.dumps(landmarks.tolist()),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert np.abs(np.array(found["vertices"]) - pair[0].vertices).max() < 1e-5 * HEAD_SIZE
    assert found["smile"] == pytest.approx(pair[0].arkit["mouthSmileLeft"], abs=1e-4)
    assert "needs numba and scipy" in done.stderr  # the photo's skin, which save() asks for; once
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "face.glb").read_bytes()[:4] == b"glTF"
    assert (tmp_path / "face.obj").read_text(encoding="utf-8").count("\nv ") == len(pair[0].vertices)
    assert json.loads((tmp_path / "face.json").read_text(encoding="utf-8"))["faces"][0]["arkit"]


RECONSTRUCT = """
import sys
for name in sys.argv[3].split(","):
    sys.modules[name] = None
from tokenface.cli import run
sys.exit(run(["reconstruct", sys.argv[1], "-o", sys.argv[2], "-f", "glb,json"]))
"""


@pytest.mark.parametrize(
    ("missing", "drawn"), [("torch,timm", True), ("torch,timm,numba,scipy", False)], ids=["no torch", "and no numba"]
)
def test_the_usual_command_runs_where_torch_is_not_installed(missing: str, drawn: bool, tmp_path) -> None:
    command = [sys.executable, "-c", RECONSTRUCT, str(PORTRAIT), str(tmp_path), missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / PORTRAIT.stem
    assert (folder / "face_00.glb").read_bytes()[:4] == b"glTF"
    assert json.loads((folder / "parameters.json").read_text(encoding="utf-8"))["faces"]
    assert (folder / "overlay.png").exists() is drawn
    assert ("need numba and scipy" in done.stderr) is not drawn


def test_photos_of_one_name_do_not_share_a_folder_and_a_bad_source_costs_itself(pair, tmp_path, monkeypatch, capsys):
    for name in ("a/x.jpg", "b/x.jpg", "one.1.jpg", "one.2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PORTRAIT, tmp_path / name)
    monkeypatch.setattr(
        "tokenface.light.load",
        lambda *_: SimpleNamespace(reconstruct=lambda item, max_faces: [replace(pair[1], item=item)]),
    )
    (tmp_path / "empty").mkdir()
    sources = [str(tmp_path / "empty"), str(tmp_path), str(tmp_path / "one.1.jpg")]
    assert run(["light", *sources, "-r", "-o", str(tmp_path / "out"), "-f", "json"]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    folders = {path.parent.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("parameters.json")}
    assert folders == {"a/x", "b/x", "one.1", "one.2"}


def test_the_doctor_knows_a_light_installation(tmp_path) -> None:
    script = (
        "import importlib.util as u, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest);"
        "sys.modules['torch'] = None; from tokenface.cli import run; sys.exit(run(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready for photos" in done.stdout
    assert "needs torch" not in done.stderr


def test_onnxruntime_alone_is_enough_for_shipped_networks(monkeypatch) -> None:
    find = importlib.util.find_spec
    hidden = ("onnx", "onnxscript", "openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else find(name, *rest))
    need_runtime("onnx")
    with pytest.raises(ConfigError, match="openvino"):
        need_runtime("openvino")
    with pytest.raises(ConfigError, match="package onnx;"):
        need_export("onnx")


def test_the_skin_of_the_photo_is_that_of_torch(pair, photo) -> None:
    ours, theirs = (face.photo_texture(photo).astype(int) for face in reversed(pair))
    assert np.abs(ours - theirs).max() <= 4
    assert np.abs(ours - theirs).mean() < 0.05


def test_an_architecture_without_a_graph_is_said(tmp_path) -> None:
    head = tokenface.load_head()
    network = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64), head.sizes, seed=0)
    save_checkpoint(tmp_path / "own.safetensors", network, head)
    with pytest.raises(CheckpointError, match="graph is not shipped"):
        LightModel(tmp_path / "own.safetensors")


def test_a_checkpoint_names_no_path_of_its_choosing(tmp_path) -> None:
    facts = {**read_metadata(find_weights()), "head": {"name": "../openhead", "geometry_hash": "0"}}
    path = tmp_path / "own.safetensors"
    path.write_bytes(save({"x": np.zeros(1, np.float32)}, metadata={FORMAT: json.dumps(facts)}))
    with pytest.raises(CheckpointError, match="impossible head model"):
        LightModel(path)


def test_a_missing_runtime_is_said_in_one_line(monkeypatch) -> None:
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        LightModel()


def test_torch_is_taken_for_what_needs_it(tmp_path, monkeypatch) -> None:
    def kind(photos: int = 1, weights=None, device: str = "auto", photos_only: bool = True, runtime: str = "auto"):
        return type(open_model(weights, device, runtime, "fp32", photos, photos_only=photos_only))

    assert kind() is LightModel
    assert kind(photos=FEW_PHOTOS + 1) is Reconstructor
    assert kind(photos_only=False) is Reconstructor
    assert kind(runtime="torch") is Reconstructor
    head = tokenface.load_head()
    own = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64), head.sizes, seed=0)
    save_checkpoint(tmp_path / "own.safetensors", own, head)
    assert kind(weights=str(tmp_path / "own.safetensors")) is Reconstructor
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert kind() is Reconstructor


def test_faces_of_one_person_are_pooled_without_torch(photo, landmarks) -> None:
    model = LightModel(threads=1)
    faces = [model.reconstruct(photo, landmarks=landmarks + move)[0] for move in (0.0, 3.0)]
    pooled = model.one_person(faces)
    weights = np.array([face.confidence for face in faces]).clip(1e-3)
    shapes = np.stack([face.parameters.shape for face in faces])
    expected = (weights[:, None] * shapes).sum(0) / weights.sum()
    for face in pooled:
        assert isinstance(face.parameters.shape, np.ndarray)
        assert np.allclose(face.parameters.shape, expected, atol=1e-5)
