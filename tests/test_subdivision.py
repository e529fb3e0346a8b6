"""Long triangles split for a round outline: places, shares, coordinates, and the files made of them."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import trimesh
from stand_ins import photo_with_marks, stand_in_model
from test_formats import read_accessor
from toy_head import toy_head_data
from typer.testing import CliRunner

from tokenface.formats.glb import glb_bytes
from tokenface.formats.mesh import split_seams
from tokenface.geometry.subdivision import Subdivision, subdivision
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.face import Face
from tokenface.inference.round_head import AS_THEY_ARE, LONGEST, round_head
from tokenface.jobs.output_tree import Settings


def split(vertices: np.ndarray, faces: np.ndarray, longest: float, keep: np.ndarray | None = None) -> Subdivision:
    return subdivision(vertices, faces, faces, len(vertices), longest, keep)


def edge_uses(faces: np.ndarray) -> Counter:
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return Counter(map(tuple, np.sort(pairs, axis=1).tolist()))


def longest_edge(vertices: np.ndarray, faces: np.ndarray) -> float:
    corners = vertices[faces]
    return float(np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2).max())


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere whose triangles are of many sizes: large above, small below."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    low = mesh.triangles_center[:, 2] < -0.3
    mesh = mesh.subdivide(face_index=np.flatnonzero(low))
    hull = trimesh.Trimesh(mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)).convex_hull
    return np.array(hull.vertices), np.array(hull.faces)


@pytest.fixture(scope="module")
def face() -> Face:
    return stand_in_model(load_head("openhead")).reconstruct(photo_with_marks((60, 40, 40)))[0]


def test_new_vertices_lie_on_the_sphere_that_the_old_ones_lie_on(ball) -> None:
    vertices, faces = ball
    found = split(vertices, faces, 0.16)
    places = found.places(vertices)
    np.testing.assert_array_equal(places[: len(vertices)], vertices)
    assert len(places) > 1.5 * len(vertices)
    off = 1 - np.linalg.norm(places[len(vertices) :], axis=1)
    chord = 1 - np.linalg.norm(found.along_edges(vertices)[len(vertices) :], axis=1)
    assert np.abs(off).max() < 0.15 * chord.max()
    assert np.abs(off).mean() < 0.06 * chord.mean()
    assert longest_edge(places, found.faces) < 0.17
    assert set(edge_uses(found.faces).values()) == {2}  # closed, no T-junction
    mesh = trimesh.Trimesh(places, found.faces, process=False)
    assert mesh.is_winding_consistent
    assert 4.18 - 0.03 < mesh.volume < 4 / 3 * np.pi


def test_the_weights_follow_affine_motions_and_sum_to_one(ball) -> None:
    vertices, faces = ball
    found = split(vertices, faces, 0.16)
    matrix, shift = np.array([[1.2, 0.3, 0], [-0.1, 0.8, 0.2], [0, 0.4, 1.1]]), np.array([0.5, -2, 3])
    moved = found.places(vertices @ matrix.T + shift)
    np.testing.assert_allclose(moved, found.places(vertices) @ matrix.T + shift, atol=1e-10)
    shares = np.random.default_rng(0).dirichlet(np.ones(5) * 0.2, len(vertices))
    dense = found.along_edges(shares)
    assert dense.min() >= 0
    np.testing.assert_allclose(dense.sum(axis=1), 1)


def test_flat_meshes_stay_flat_inside_their_border() -> None:
    x, y = np.meshgrid(np.arange(5.0), np.arange(4.0))
    vertices = np.column_stack([x.ravel(), y.ravel(), np.zeros(20)])
    at = np.arange(20).reshape(4, 5)
    a, b, c, d = at[:-1, :-1].ravel(), at[:-1, 1:].ravel(), at[1:, :-1].ravel(), at[1:, 1:].ravel()
    faces = np.concatenate([np.column_stack([a, b, c]), np.column_stack([b, d, c])])
    found = split(vertices, faces, 0.9, keep=at[:, 0])
    places = found.places(vertices)
    assert np.abs(places[:, 2]).max() < 1e-12
    assert places.min() >= -1e-9
    assert (places.max(axis=0) <= [4 + 1e-9, 3 + 1e-9, 0]).all()
    border = [edge for edge, uses in edge_uses(found.faces).items() if uses == 1]
    left = [edge for edge in border if (places[list(edge), 0] < 1e-9).all()]
    assert len(left) == 3  # kept
    assert len(border) == 3 + 2 * (3 + 4 + 4)
    corners = places[found.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    assert area == pytest.approx(12)
    assert set(found.origin) == set(range(len(faces)))


def test_a_heads_outline_is_round_and_its_vertices_stay(face: Face) -> None:
    data, found = face.head.data, round_head(face.head)
    assert round_head(face.head) is found  # once
    places = found.places(face.vertices)
    np.testing.assert_array_equal(places[: len(face.vertices)], face.vertices)
    hidden = np.concatenate([data.regions[name] for name in AS_THEY_ARE])
    template = found.places(data.template)
    scalp = np.isin(data.faces, data.regions["scalp"]).all(axis=1)
    assert longest_edge(data.template, data.faces[scalp]) > 2 * LONGEST
    assert longest_edge(template, found.faces[scalp[found.origin]]) < 1.1 * LONGEST
    untouched = np.isin(data.faces, hidden).all(axis=1)
    assert (np.bincount(found.origin)[untouched] == 1).all()
    assert {edge for edge, uses in edge_uses(found.faces).items() if uses > 2} == set()
    # the layout keeps its area: coordinates are split where their triangles are
    areas = []
    for uv, faces in ((data.uv, data.uv_faces), (found.coordinates(data.uv), found.uv_faces)):
        one, two = uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]
        area = np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).sum(dtype=np.float64) / 2
        areas.append(area)
    assert areas[1] == pytest.approx(areas[0], rel=1e-5)


def test_a_glb_shows_it_with_the_old_vertices_first(face: Face) -> None:
    data = face.head.data
    plain, rounded = face.rig(rounded=False), face.rig()
    files = [glb_bytes(face.riggable_mesh(), rig) for rig in (plain, rounded)]
    assert len(files[0]) < len(files[1]) < 1.15 * len(files[0])
    before, after = (pygltflib.GLTF2.load_from_bytes(file) for file in files)

    def attribute(document, name: str) -> np.ndarray:
        return read_accessor(document, getattr(document.meshes[0].primitives[0].attributes, name))

    split_before = split_seams(data.faces[plain.skin_faces], data.uv, data.uv_faces[plain.skin_faces])
    count = len(split_before.source)
    for name in ("POSITION", "TEXCOORD_0", "JOINTS_0", "WEIGHTS_0"):
        np.testing.assert_array_equal(attribute(after, name)[:count], attribute(before, name))
        assert len(attribute(after, name)) > 1.2 * count
    names = after.meshes[0].extras["targetNames"]
    assert names == before.meshes[0].extras["targetNames"]
    for document in (before, after):
        assert len(document.meshes[0].primitives[0].targets) == len(names)
    number = names.index("mouthSmileLeft")
    moves = [read_accessor(d, d.meshes[0].primitives[0].targets[number]["POSITION"]) for d in (before, after)]
    np.testing.assert_allclose(moves[1][:count], moves[0], atol=1e-7)
    faces = read_accessor(after, after.meshes[0].primitives[0].indices).reshape(-1, 3).astype(int)
    corners = attribute(after, "POSITION")[faces].astype(np.float64)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    along = (attribute(after, "NORMAL")[faces].mean(axis=1) * flat).sum(axis=1)
    assert (along > 0).mean() > 0.999
    assert [mesh.name for mesh in after.meshes[1:]] == [mesh.name for mesh in before.meshes[1:]]


def test_a_head_that_is_coarse_everywhere_stays_as_it_is() -> None:
    head = HeadModel(toy_head_data())
    found = round_head(head)
    np.testing.assert_array_equal(found.faces, head.data.faces)
    np.testing.assert_array_equal(found.places(head.data.template), head.data.template)


@pytest.mark.parametrize(("suffix", "usual"), [("obj", False), ("ply", False), ("stl", True)])
def test_each_format_has_its_usual_outline_and_the_other_when_asked(
    face: Face, tmp_path: Path, suffix: str, usual: bool
) -> None:
    def triangles(rounded: bool | None) -> int:
        path = face.save(tmp_path / f"a.{suffix}", texture="model", rounded=rounded)
        mesh = trimesh.load(io.BytesIO(path.read_bytes()), file_type=suffix, process=False, force="mesh")
        return len(mesh.faces)

    plain, dense = len(face.faces), len(round_head(face.head).faces)
    assert dense > 1.3 * plain
    cap = 0 if suffix != "stl" else triangles(False) - plain  # the holes of what is printed are shut
    assert triangles(False) - cap == plain
    assert triangles(True) - cap == pytest.approx(dense, abs=cap // 10)
    assert triangles(None) == triangles(usual)


def test_the_command_takes_it_and_does_finished_photos_again() -> None:
    from tokenface.cli.app import app

    help_text = CliRunner().invoke(app, ["reconstruct", "--help"], env={"COLUMNS": "200"}).output
    assert "--rounded" in help_text
    assert len({Settings(rounded=value).hash() for value in (None, True, False)}) == 3
