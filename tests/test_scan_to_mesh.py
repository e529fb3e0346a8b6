"""Scan-to-mesh distances against identities that any correct implementation keeps."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

igl = pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from tokenface.evaluation.scan_to_mesh import crop_face, procrustes, scan_to_mesh_distances  # noqa: E402


@pytest.fixture(scope="module")
def bumpy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed surface without symmetry, its faces, and seven points on it."""
    ball = trimesh.creation.icosphere(4, 0.1)
    v = np.asarray(ball.vertices)
    v = v * (1 + 0.2 * np.sin(31 * v[:, :1]) + 0.15 * np.cos(23 * v[:, 1:2] + 1) + 0.1 * np.sin(40 * v[:, 2:]))
    return v, np.asarray(ball.faces), v[[5, 100, 300, 700, 1200, 1700, 2400]]


def similarity(seed: int) -> tuple[float, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotation = trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
    return rng.uniform(0.5, 2000), rotation, rng.normal(size=3)


def test_procrustes_recovers_a_similarity(bumpy):
    v = bumpy[0]
    scale, rotation, translation = similarity(0)
    pose = procrustes(v, scale * v @ rotation.T + translation)
    assert pose.scale == pytest.approx(scale)
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-9)
    assert np.linalg.det(pose.rotation) == pytest.approx(1)


def test_a_moved_copy_has_distance_zero(bumpy):
    v, f, points = bumpy
    scale, rotation, translation = similarity(1)
    moved, moved_points = scale * v @ rotation.T + translation, scale * points @ rotation.T + translation
    assert scan_to_mesh_distances(v, points, moved, f, moved_points).max() < 1e-7


def test_a_bad_start_is_refined_to_the_same_answer(bumpy):
    v, f, points = bumpy
    wrong = points + np.random.default_rng(2).normal(scale=0.005, size=points.shape)
    assert scan_to_mesh_distances(v, points, v, f, wrong, iterations=200).max() < 5e-4


def test_distances_equal_brute_force_without_refinement(bumpy):
    v, f, points = bumpy
    rng = np.random.default_rng(3)
    scan = v[rng.integers(len(v), size=40)] + rng.normal(scale=0.01, size=(40, 3))
    measured = scan_to_mesh_distances(scan, points, v, f, points, iterations=0)
    brute = trimesh.triangles.closest_point(np.repeat(v[f], 40, axis=0), np.tile(scan, (len(f), 1)))
    brute = np.linalg.norm(brute - np.tile(scan, (len(f), 1)), axis=1).reshape(len(f), 40).min(0)
    np.testing.assert_allclose(measured, brute, atol=1e-9)


def test_face_crop_is_the_protocols_ball():
    seven = np.array([[-4, 4, 0], [-2, 4, 0], [2, 4, 0], [4, 4, 0], [0, 0, 0], [-2, -3, 0], [2, -3, 0]], float)
    radius = 1.4 * (8 + 4) / 2  # outer eye distance 8, bridge to nose 4
    inside, outside = np.array([0, 1.2 + radius - 0.01, 0]), np.array([0, 1.2 + radius + 0.01, 0])
    assert crop_face(np.array([inside, outside]), seven).tolist() == [True, False]
