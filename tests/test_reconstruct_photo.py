"""A real photo, the real detector, OpenHead: from `tokenface reconstruct` to files that other programs accept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import skimage.data
import trimesh
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from test_formats import displayed_vertices, khronos_issues

import tokenface
from tokenface import cli
from tokenface.formats.glb import write_glb
from tokenface.formats.mesh import split_seams
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.head.registry import load_head
from tokenface.images.detector import FaceDetector
from tokenface.images.models import MODEL_FILES, find_model
from tokenface.inference.face import Face
from tokenface.inference.round_head import round_head
from tokenface.weights import DEFAULT_WEIGHTS, WEIGHTS, WEIGHTS_VARIABLE

needs_detector = pytest.mark.skipif(
    any(find_model(name) is None for name in MODEL_FILES), reason="no detector models; run 'tokenface models fetch'"
)
needs_weights = pytest.mark.skipif(not WEIGHTS[DEFAULT_WEIGHTS].installed, reason="the default weights are not there")


@pytest.fixture(scope="module")
def openhead_face() -> Face:
    return stand_in_model(load_head("openhead")).reconstruct(photo_with_marks((60, 40, 40)))[0]


def test_openheads_glb_shows_the_vertices_and_has_arkits_targets(openhead_face: Face, tmp_path: Path) -> None:
    data = openhead_face.head.data
    skin = openhead_face.rig().skin_faces
    plain = pygltflib.GLTF2().load(str(openhead_face.save(tmp_path / "plain.glb", rounded=False)))
    source = split_seams(data.faces[skin], data.uv, data.uv_faces[skin]).source
    np.testing.assert_allclose(displayed_vertices(plain), openhead_face.vertices[source], atol=1e-5)
    path = openhead_face.save(tmp_path / "face.glb")
    document = pygltflib.GLTF2().load(str(path))
    finer = round_head(openhead_face.head)
    drawn = np.isin(finer.origin, skin)
    source = split_seams(finer.faces[drawn], finer.coordinates(data.uv), finer.uv_faces[drawn]).source
    shown, own = displayed_vertices(document), source < len(data.template)
    np.testing.assert_allclose(shown[own], openhead_face.vertices[source[own]], atol=1e-5)
    between = finer.places(openhead_face.vertices)[source]
    assert np.linalg.norm(shown - between, axis=1).max() < 5e-4  # an edge's middle does not turn quite as its ends do
    assert set(document.meshes[0].extras["targetNames"]) == set(ARKIT_NAMES)
    assert document.asset.extras["joint_drive"]["eyeLookUpLeft"]["left_eye"][0] < 0  # +x would turn the gaze down
    assert path.stat().st_size < 3_000_000


def test_openheads_glb_passes_the_khronos_validator(openhead_face: Face, tmp_path: Path) -> None:
    issues = khronos_issues(openhead_face.save(tmp_path / "face.glb"))
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_texture_lies_alike_in_glb_obj_and_ply(openhead_face: Face, tmp_path: Path) -> None:
    """Three writers, three conventions of v: trimesh looks the colours up in each file."""
    files = {suffix: openhead_face.save(tmp_path / f"face.{suffix}", texture="model") for suffix in ("obj", "ply")}
    files["glb"] = write_glb(
        tmp_path / "face.glb", openhead_face.riggable_mesh(), openhead_face.rig(parts=False, rounded=False)
    )
    ply = trimesh.load(files["ply"], process=False)
    order = {
        tuple(p): c for p, c in zip(np.round(ply.vertices, 5), ply.visual.vertex_colors[:, :3].astype(int), strict=True)
    }
    for suffix in ("glb", "obj"):
        loaded = trimesh.load(files[suffix], process=False, force="mesh")
        if suffix == "glb":  # trimesh ignores rigs: take the geometry from the face
            data = openhead_face.head.data
            loaded.vertices = openhead_face.vertices[split_seams(data.faces, data.uv, data.uv_faces).source]
        colours = loaded.visual.to_color().vertex_colors[:, :3].astype(int)
        expected = np.array([order.get(tuple(p), (-999,) * 3) for p in np.round(loaded.vertices, 5)])
        known = expected[:, 0] >= 0
        assert known.mean() > 0.9
        # Nearest against bilinear look-up, and either side of a seam: most agree, a wrong flip would not.
        assert np.median(np.abs(colours - expected)[known]) <= 3
        assert (np.abs(colours - expected)[known].max(axis=1) < 40).mean() > 0.95


@needs_detector
def test_a_real_photo_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network may be untrained here; everything around it is the real thing."""
    from tokenface.inference.checkpoint import save_checkpoint
    from tokenface.network.config import NetworkConfig
    from tokenface.network.tokenface import TokenFace

    head = load_head("openhead")
    weights = tmp_path / "untrained.safetensors"
    save_checkpoint(weights, TokenFace(NetworkConfig(image_size=128), head.sizes, seed=0), head)
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "astronaut.png")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    assert cli.run(["reconstruct", str(tmp_path / "astronaut.png"), "-o", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "astronaut"
    for suffix in ("obj", "ply"):
        assert len(trimesh.load(folder / f"face_00.{suffix}", force="mesh").faces) == len(head.data.faces)
    meshes = trimesh.load(folder / "face_00.glb").geometry
    assert len(meshes) == 6  # skin, two eyes, two rows of teeth, tongue
    document = json.loads((folder / "parameters.json").read_text())
    (face,) = document["faces"]
    x0, y0, x1, y1 = face["box"]
    assert 170 < (x0 + x1) / 2 < 280  # Eileen Collins's face is there
    assert 60 < (y0 + y1) / 2 < 190
    assert list(face["arkit"]) == list(ARKIT_NAMES)


@needs_detector
@needs_weights
@pytest.mark.parametrize("turns", [0, 2])
def test_the_shipped_weights_fit_a_real_face(turns: int) -> None:
    photo = np.ascontiguousarray(np.rot90(skimage.data.astronaut(), turns))
    (face,) = tokenface.load(device="cpu").reconstruct(photo)
    (found,) = FaceDetector().detect(photo)
    assert found.landmarks68 is not None
    error = np.linalg.norm(face.landmarks - found.landmarks68, axis=1).mean() / found.size
    assert error < 0.08  # the 68 points of the detector's mesh are themselves some 3 % off
    assert face.confidence > 0.3
    assert face.arkit is not None
    assert max(face.arkit["mouthSmileLeft"], face.arkit["mouthSmileRight"]) > 0.1  # she smiles
    assert abs(abs(np.degrees(face.camera.angles[2])) - (180 if turns else 0)) < 25
