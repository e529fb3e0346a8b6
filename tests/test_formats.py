"""GLB, OBJ and PLY against what independent readers make of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation
from toy_head import toy_head_data

from tokenface.core.files import write_atomically
from tokenface.errors import OutputError
from tokenface.formats.glb import glb_bytes, write_glb
from tokenface.formats.mesh import TexturedMesh, file_normals, split_seams, vertex_colours
from tokenface.formats.obj import write_obj
from tokenface.formats.ply import write_ply
from tokenface.formats.rig import Rig
from tokenface.head.data import JOINT_PARENTS

GLTF_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@pytest.fixture(scope="module")
def rig() -> Rig:
    data, random = toy_head_data(), np.random.default_rng(1)
    return Rig(
        rest=data.template,
        joints=data.joint_template,
        rotations=random.normal(size=(5, 3)).astype(np.float32) * 0.3,
        skinning_weights=data.skinning_weights,
        morph_names=data.expression_names,
        morphs=data.expression_basis,
        morph_weights=random.uniform(size=5).astype(np.float32),
    )


@pytest.fixture(scope="module")
def mesh(rig: Rig) -> TexturedMesh:
    data = toy_head_data()
    vertices = rig.posed().astype(np.float32)
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    texture = np.stack([*np.meshgrid(ramp, ramp), np.full((32, 32), 90, np.uint8)], axis=-1)
    return TexturedMesh(
        vertices, data.faces, data.uv, data.uv_faces, file_normals(vertices, data.faces), texture,
        facts={"licence": "CC0-1.0", "photo": "zwei\nZeilen ü"},
    )  # fmt: skip


def read_accessor(document: pygltflib.GLTF2, index: int) -> np.ndarray:
    """A reader of our own, straight from the glTF 2.0 specification (section 3.6.2), sparse accessors included."""
    accessor, blob = document.accessors[index], document.binary_blob()
    width, kind = WIDTHS[accessor.type], GLTF_TYPES[accessor.componentType]

    def raw(view_index: int, count: int, columns: int, dtype: type) -> np.ndarray:
        view = document.bufferViews[view_index]
        return np.frombuffer(blob, dtype, count * columns, view.byteOffset).reshape(count, columns)

    if accessor.bufferView is None:
        values = np.zeros((accessor.count, width), kind)
    else:
        values = raw(accessor.bufferView, accessor.count, width, kind).copy()
    if accessor.sparse is not None:
        indices = raw(
            accessor.sparse.indices.bufferView,
            accessor.sparse.count,
            1,
            GLTF_TYPES[accessor.sparse.indices.componentType],
        )[:, 0]
        assert (np.diff(indices.astype(int)) > 0).all()
        values[indices] = raw(accessor.sparse.values.bufferView, accessor.sparse.count, width, kind)
    return values


def displayed_vertices(document: pygltflib.GLTF2) -> np.ndarray:
    """What a viewer shows: morph targets, then skinning with the node hierarchy (glTF 2.0, 3.7.3)."""
    primitive, skin = document.meshes[0].primitives[0], document.skins[0]
    positions = read_accessor(document, primitive.attributes.POSITION).astype(np.float64)
    for weight, target in zip(document.meshes[0].weights, primitive.targets, strict=True):
        positions += weight * read_accessor(document, target["POSITION"])
    parent = {child: index for index, node in enumerate(document.nodes) for child in node.children or []}

    def world(node: int) -> np.ndarray:
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(document.nodes[node].rotation).as_matrix()
        local[:3, 3] = document.nodes[node].translation
        return world(parent[node]) @ local if node in parent else local

    inverse_bind = read_accessor(document, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world(node) @ bind for node, bind in zip(skin.joints, inverse_bind, strict=True)])
    joints = read_accessor(document, primitive.attributes.JOINTS_0)
    weights = read_accessor(document, primitive.attributes.WEIGHTS_0)
    homogeneous = np.concatenate([positions, np.ones((len(positions), 1))], axis=1)
    return np.einsum("nk,nkij,nj->ni", weights, matrices[joints], homogeneous)[:, :3]


def test_a_viewer_of_the_glb_shows_the_posed_mesh(tmp_path: Path, mesh: TexturedMesh, rig: Rig) -> None:
    document = pygltflib.GLTF2().load(str(write_glb(tmp_path / "a.glb", mesh, rig)))
    source = split_seams(mesh.faces, mesh.uv, mesh.uv_faces).source
    moved = np.abs(mesh.vertices - rig.rest).max()
    assert moved > 0.01  # the pose must matter for this test to mean anything
    np.testing.assert_allclose(displayed_vertices(document), mesh.vertices[source], atol=1e-6)


def test_joint_nodes_stand_where_the_posed_joints_are(mesh: TexturedMesh, rig: Rig) -> None:
    world = rig.world_matrices()
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:  # a joint moves with its parent alone
            expected = world[parent][:3, :3] @ rig.joints[joint] + world[parent][:3, 3]
            np.testing.assert_allclose(
                world[joint][:3, :3] @ rig.joints[joint] + world[joint][:3, 3], expected, atol=1e-6
            )


def test_morph_targets_are_named_and_local_ones_are_sparse(mesh: TexturedMesh, rig: Rig) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(mesh, rig))
    assert document.meshes[0].extras["targetNames"] == list(rig.morph_names)
    np.testing.assert_allclose(document.meshes[0].weights, rig.morph_weights, atol=1e-7)
    source = split_seams(mesh.faces, mesh.uv, mesh.uv_faces).source
    targets = document.meshes[0].primitives[0].targets
    for morph, target in zip(rig.morphs, targets, strict=True):
        np.testing.assert_allclose(read_accessor(document, target["POSITION"]), morph[source], atol=1.1e-7)
    assert document.accessors[targets[1]["POSITION"]].sparse is not None
    still = document.accessors[targets[-1]["POSITION"]]
    assert still.sparse is None
    assert still.bufferView is None
    assert still.max == [0, 0, 0]


def test_glb_carries_the_texture_and_trimesh_reads_it_upright(tmp_path: Path, mesh: TexturedMesh, rig: Rig) -> None:
    path = write_glb(tmp_path / "a.glb", mesh, rig)
    loaded = next(iter(trimesh.load(path).geometry.values()))
    assert len(loaded.faces) == len(mesh.faces)
    texture = np.asarray(loaded.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(texture, mesh.texture)
    split = split_seams(mesh.faces, mesh.uv, mesh.uv_faces)
    np.testing.assert_allclose(loaded.visual.uv, split.uv, atol=1e-6)  # trimesh turns v back upwards


def test_the_same_face_gives_the_same_bytes(mesh: TexturedMesh, rig: Rig) -> None:
    assert glb_bytes(mesh, rig) == glb_bytes(mesh, rig)


def khronos_issues(path: Path) -> dict[str, Any]:
    """Needs node and the npm package: set TOKENFACE_GLTF_VALIDATOR to the folder node_modules/gltf-validator."""
    validator = os.environ.get("TOKENFACE_GLTF_VALIDATOR")
    if not validator or not shutil.which("node"):
        pytest.skip("TOKENFACE_GLTF_VALIDATOR is not set, or node is not installed")
    script = (
        f"const v=require({json.dumps(validator)}),fs=require('fs');"
        f"v.validateBytes(new Uint8Array(fs.readFileSync({json.dumps(str(path))})))"
        ".then(r=>console.log(JSON.stringify(r.issues)))"
    )
    return json.loads(subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout)


def test_khronos_validator_finds_no_error(tmp_path: Path, mesh: TexturedMesh, rig: Rig) -> None:
    issues = khronos_issues(write_glb(tmp_path / "a.glb", mesh, rig))
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_obj_keeps_the_vertex_order_and_names_its_companions(tmp_path: Path, mesh: TexturedMesh) -> None:
    path, material, texture = write_obj(tmp_path / "my face.obj", mesh)
    assert f"mtllib {material.name}" in path.read_text()
    assert " " not in material.name
    np.testing.assert_array_equal(np.asarray(Image.open(texture)), mesh.texture)
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([row[1:] for row in rows if row and row[0] == "v"], dtype=float)
    np.testing.assert_allclose(vertices, mesh.vertices, atol=1e-7)
    loaded = trimesh.load(path, process=False, force="mesh")
    assert loaded.faces.shape == mesh.faces.shape
    np.testing.assert_allclose(loaded.triangles, mesh.vertices[mesh.faces], atol=1e-6)
    np.testing.assert_allclose(loaded.visual.uv[loaded.faces], mesh.uv[mesh.uv_faces], atol=1e-5)
    assert loaded.visual.material.image.size == (32, 32)


def test_ply_has_the_albedo_at_every_vertex(tmp_path: Path, mesh: TexturedMesh) -> None:
    loaded = trimesh.load(write_ply(tmp_path / "a.ply", mesh), process=False)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-7)
    np.testing.assert_allclose(loaded.vertex_normals, mesh.normals, atol=1e-5)
    colours = loaded.visual.vertex_colors[:, :3].astype(float)
    # The texture is a ramp: red follows u, green falls with v. Seam vertices may take either side.
    inner = np.setdiff1d(
        np.arange(len(mesh.vertices)), mesh.faces[np.ptp(mesh.uv[mesh.uv_faces][..., 0], axis=1) > 0.5]
    )
    uv = np.zeros((len(mesh.vertices), 2))
    uv[mesh.faces.ravel()] = mesh.uv[mesh.uv_faces.ravel()]
    keep = inner[(uv[inner] > 0.05).all(1) & (uv[inner] < 0.95).all(1)]
    expected = (uv[keep] * 32 - 0.5) / 31 * 255
    assert np.abs(colours[keep, 0] - expected[:, 0]).max() < 6
    assert np.abs(colours[keep, 1] - (255 - expected[:, 1])).max() < 6


def test_vertex_colours_are_exact_at_texel_centres(mesh: TexturedMesh) -> None:
    uv = np.array([[(5 + 0.5) / 32, 1 - (9 + 0.5) / 32]] * len(mesh.uv))
    flat = TexturedMesh(mesh.vertices, mesh.faces, uv, mesh.uv_faces, mesh.normals, mesh.texture)
    assert (vertex_colours(flat) == mesh.texture[9, 5]).all()


def test_normals_agree_with_trimesh_on_a_sphere() -> None:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    normals = file_normals(np.asarray(sphere.vertices), np.asarray(sphere.faces))
    np.testing.assert_allclose(normals, sphere.vertices, atol=2e-2)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions differ")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"no permission .* -o"):
        write_atomically(tmp_path / "a.txt", b"x")
    tmp_path.chmod(0o700)


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write_atomically(tmp_path / "a.bin", b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OutputError, match="the disk is full"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_png_in_the_glb_is_lossless(mesh: TexturedMesh, rig: Rig) -> None:
    document = pygltflib.GLTF2.load_from_bytes(glb_bytes(mesh, rig))
    view = document.bufferViews[document.images[0].bufferView]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), mesh.texture)
