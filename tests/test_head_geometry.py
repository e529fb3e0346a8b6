"""Helpers of the head converters against closed forms: OBJ order, mirror map, contour, texel cover, similarity."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from tokenface.errors import HeadModelError
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.similarity import procrustes
from tokenface.head.contour import sliding_contour, vertices_as_triangles
from tokenface.head.obj_file import read_obj, read_obj_vertices, triangulate
from tokenface.head.symmetry import mirror_error, mirror_map
from tokenface.head.transfer import closest_on_surface, cover, nearest_covered


def test_obj_keeps_the_order_of_the_file_and_reads_quads_and_triangles(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(
        "# text\nmtllib x.mtl\nv 0 0 0 1\nv 1 0 0\nv 1 1 0\nvt 0.5 0.25\nvn 0 0 1\nv 0 1 0\nvt 1 0\n"
        "usemtl m\nf 1/1/1 2/2/1 3/1/1 4/2/1\nf 4/1 3/2 1/1\n"
    )
    mesh = read_obj(path)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.uv, [[0.5, 0.25], [1, 0]])
    np.testing.assert_array_equal(mesh.polygons, [[0, 1, 2, 3], [3, 2, 0, 0]])
    np.testing.assert_array_equal(mesh.uv_polygons, [[0, 1, 0, 1], [0, 1, 0, 0]])
    np.testing.assert_array_equal(triangulate(mesh.polygons), [[0, 1, 2], [0, 2, 3], [3, 2, 0]])


def test_obj_vertices_alone_are_the_same(tmp_path):
    points = np.random.default_rng(0).normal(size=(50, 3))
    path = tmp_path / "a.obj"
    path.write_text("mtllib x\n" + "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in points) + "vt 0 0\nf 1 2 3\n")
    np.testing.assert_array_equal(read_obj_vertices(path), read_obj(path).vertices)
    np.testing.assert_allclose(read_obj_vertices(path), points, atol=1e-9)


@pytest.mark.parametrize(
    "text",
    ["v 0 0 0\nf 1 2 3\n", "v 0 0 0\nv a 0 0\n", "", "v 0 0 nan\n", "v 0 0 0\nf 1 1 1 1 1\n", "v 0 0 0\nf -1 1 1\n"],
)
def test_malformed_obj_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a.obj"
    path.write_text(text)
    with pytest.raises(HeadModelError) as caught:
        read_obj(path)
    assert "\n" not in str(caught.value)


def test_mirror_map_finds_the_known_partners_of_a_noisy_symmetric_cloud():
    rng = np.random.default_rng(0)
    half = rng.uniform([0.01, -0.1, -0.1], [0.21, 0.1, 0.1], (200, 3))
    middle = rng.uniform(-0.1, 0.1, (30, 3)) * [0, 1, 1]
    points = np.concatenate([half, middle, half * [-1, 1, 1]]) + rng.normal(scale=1e-5, size=(430, 3))
    order = rng.permutation(430)
    expected = np.concatenate([np.arange(230, 430), np.arange(200, 230), np.arange(200)])
    expected = np.argsort(order)[expected[order]]
    mirror = mirror_map(points[order])
    np.testing.assert_array_equal(mirror, expected)
    assert mirror_error(points[order], mirror).max() < 1e-4


def test_mirror_map_is_its_own_inverse_on_any_cloud():
    mirror = mirror_map(np.random.default_rng(1).normal(size=(300, 3)))
    np.testing.assert_array_equal(mirror[mirror], np.arange(300))


def test_contour_on_a_sphere_is_the_closed_form():
    """On a sphere the edge seen under yaw ψ lies at azimuth 90° − ψ; a point already in front of it stays."""
    radius = 0.1
    ball = trimesh.creation.uv_sphere(radius=radius, count=[60, 120])
    points = np.asarray(ball.vertices)[:, [0, 2, 1]]
    faces = np.asarray(ball.faces)[:, ::-1]

    def vertex_at(azimuth: float, height: float) -> int:
        flat = np.sqrt(radius**2 - height**2)
        place = [flat * np.sin(np.radians(azimuth)), height, flat * np.cos(np.radians(azimuth))]
        return int(np.linalg.norm(points - place, axis=1).argmin())

    azimuths = np.linspace(88, 0, 9)
    heights = np.linspace(0.03, -0.06, 9)
    right = [vertex_at(-a, h) for a, h in zip(azimuths, heights, strict=True)]
    left = [vertex_at(a, h) for a, h in zip(azimuths[:-1][::-1], heights[:-1][::-1], strict=True)]
    landmarks = np.array([*right, *left, *([vertex_at(0, -0.03)] * 51)])
    table, weights, first = sliding_contour(points, faces, np.ones(len(faces), bool), landmarks)
    assert table.shape == (181, 17)
    assert first == -90
    places = np.einsum("rkc,rkcd->rkd", weights, points[faces[table]])
    axis = points[landmarks[16], 2] - 0.012  # rays start a little behind the temple: azimuths are about that axis
    for yaw in (20, 45, 60):
        edge = 90 - yaw
        for point, side in ((14, 1), (2, -1)):
            place = places[90 + side * yaw, point]
            seen = np.degrees(np.arctan2(side * place[0], place[2]))
            start = azimuths[2]
            assert seen == pytest.approx(min(edge, start), abs=2.5), (yaw, point)
            near = places[90 - side * yaw, point]
            np.testing.assert_allclose(near, points[landmarks[point]], atol=1e-7)
    assert abs(axis) < radius
    np.testing.assert_allclose(places[90], points[landmarks[:17]], atol=1e-7)


def test_vertices_as_triangles_name_a_corner():
    faces = np.array([[4, 2, 0], [0, 1, 2], [2, 3, 4]])
    triangles, weights = vertices_as_triangles(faces, np.array([3, 0, 4]))
    found = (faces[triangles] * weights).sum(1)
    np.testing.assert_array_equal(found, [3, 0, 4])
    np.testing.assert_array_equal(weights.sum(1), 1)


def test_cover_places_texel_centres_exactly():
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    triangle, weights = cover(uv, np.array([[0, 1, 2], [0, 2, 3]]), 8)
    assert (triangle >= 0).all()
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    places = np.einsum("rck,rckd->rcd", weights, uv[faces[triangle]])
    centre = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(places[..., 0], np.tile(centre, (8, 1)), atol=1e-6)
    np.testing.assert_allclose(places[..., 1], np.tile(1 - centre[:, None], (1, 8)), atol=1e-6)


def test_uncovered_texels_repeat_the_nearest_covered_one():
    covered = np.zeros((5, 5), bool)
    covered[2, 1] = covered[2, 4] = True
    rows, columns = nearest_covered(covered)
    assert (rows == 2).all()
    np.testing.assert_array_equal(columns[0], [1, 1, 1, 4, 4])


def test_similarity_is_found_again():
    rng = np.random.default_rng(2)
    source = rng.normal(size=(20, 3))
    rotation = Rotation.random(random_state=0).as_matrix()
    target = 1.7 * source @ rotation.T + [1, -2, 3]
    found = procrustes(source, target)
    assert found.scale == pytest.approx(1.7)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, [1, -2, 3], atol=1e-9)


def test_vertex_normals_and_closest_points_of_a_sphere():
    ball = trimesh.creation.icosphere(subdivisions=4)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    np.testing.assert_allclose((mesh_normals(vertices, faces) * vertices).sum(1), 1, atol=1e-3)
    points = np.random.default_rng(3).normal(size=(40, 3))
    triangles, weights = closest_on_surface(points, vertices, faces)
    places = np.einsum("kc,kcd->kd", weights, vertices[faces[triangles]])
    _, distance, _ = trimesh.proximity.closest_point_naive(ball, points)
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), distance, atol=1e-9)
