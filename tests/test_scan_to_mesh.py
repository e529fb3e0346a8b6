"""Scan-to-mesh distances against identities that any correct implementation keeps, and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

igl = pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from tokenface.evaluation.icp import Surface, spatial_order  # noqa: E402
from tokenface.evaluation.scan_to_mesh import (  # noqa: E402
    NOW,
    NOW_METRICAL,
    STIRLING,
    Protocol,
    ScanFace,
    crop_face,
    landmark_pose,
    measure,
    scan_face,
)
from tokenface.geometry.similarity import Similarity, procrustes  # noqa: E402

UNREFINED = Protocol("landmarks alone", refined=False)


@pytest.fixture(scope="module")
def bumpy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed surface without symmetry, its faces, and seven points on it."""
    ball = trimesh.creation.icosphere(4, 0.1)
    v = np.asarray(ball.vertices)
    v = v * (1 + 0.2 * np.sin(31 * v[:, :1]) + 0.15 * np.cos(23 * v[:, 1:2] + 1) + 0.1 * np.sin(40 * v[:, 2:]))
    return v, np.asarray(ball.faces), v[[5, 100, 300, 700, 1200, 1700, 2400]]


def whole(v: np.ndarray, points: np.ndarray) -> ScanFace:
    return ScanFace(v, np.arange(len(v)), points)


def random_similarity(seed: int) -> Similarity:
    rng = np.random.default_rng(seed)
    rotation = trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
    return Similarity(rng.uniform(0.5, 2000), rotation, rng.normal(size=3))


def test_procrustes_recovers_a_similarity(bumpy):
    truth = random_similarity(0)
    found = procrustes(bumpy[0], truth.apply(bumpy[0]))
    assert found.scale == pytest.approx(truth.scale)
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-9)
    np.testing.assert_allclose(found.undo(truth.apply(bumpy[0])), bumpy[0], atol=1e-9)


def test_procrustes_keeps_a_given_scale(bumpy):
    truth = random_similarity(7)
    found = procrustes(bumpy[0], truth.apply(bumpy[0]), scale=3.0)
    assert found.scale == 3.0
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-9)


def test_a_mirror_image_is_accepted_only_where_reflection_is_allowed(bumpy):
    v = bumpy[0]
    mirrored = v * [-1, 1, 1]
    np.testing.assert_allclose(procrustes(v, mirrored, reflection=True).apply(v), mirrored, atol=1e-9)
    assert np.linalg.det(procrustes(v, mirrored).rotation) == pytest.approx(1)


@pytest.mark.parametrize("protocol", [NOW, STIRLING])
def test_a_moved_copy_has_distance_zero(bumpy, protocol):
    v, f, points = bumpy
    moved = random_similarity(1)
    found = measure(whole(v, points), Surface(moved.apply(v), f), moved.apply(points), protocol)
    assert found.distances.max() < 1e-7


def test_a_metrical_copy_in_another_unit_has_distance_zero(bumpy):
    v, f, points = bumpy
    turned = Similarity(1.0, random_similarity(2).rotation, np.array([0.1, -0.2, 0.3]))
    scan = whole(v * 1000, points * 1000)
    found = measure(scan, Surface(turned.apply(v), f), turned.apply(points), NOW_METRICAL, "m")
    assert found.distances.max() < 1e-3
    assert found.pose.scale == 1000


def test_metrical_alignment_sees_a_wrong_size_and_the_other_does_not(bumpy):
    v, f, points = bumpy
    scan, surface = whole(v * 1000, points * 1000), Surface(v * 1.1, f)
    assert measure(scan, surface, points * 1.1, NOW).distances.max() < 1e-3
    assert measure(scan, surface, points * 1.1, NOW_METRICAL).distances.mean() > 3


def test_offset_spheres_are_as_far_apart_as_their_radii():
    ball = trimesh.creation.icosphere(5, 1.0)
    v, f = np.asarray(ball.vertices), np.asarray(ball.faces)
    points = v[[5, 100, 300, 700, 1200, 1700, 2400]]
    distances = measure(whole(v * 103, points * 100), Surface(v * 100, f), points * 100, UNREFINED).distances
    np.testing.assert_allclose(distances, 3, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_bad_starts_end_at_the_same_answer(bumpy, seed):
    """Starts turned by 60° and scaled by half or double."""
    v, f, points = bumpy
    rng = np.random.default_rng(seed)
    scan = whole(v * 1000 + rng.normal(scale=0.5, size=v.shape), points * 1000)
    axis = rng.normal(size=3)
    right = measure(scan, Surface(v, f), points)
    turn, scale = np.radians(60) * axis / np.linalg.norm(axis), (0.5, 2.0)[seed % 2]
    start = right.pose.moved(scan.points.mean(0), turn, rng.normal(scale=5, size=3), scale)
    found = measure(scan, Surface(v, f), points, start=start)
    np.testing.assert_allclose(found.distances, right.distances, atol=1e-3)


def test_wrong_landmarks_are_refined_to_the_same_answer(bumpy):
    v, f, points = bumpy
    wrong = points + np.random.default_rng(2).normal(scale=0.005, size=points.shape)
    assert measure(whole(v, points), Surface(v, f), wrong).distances.max() < 1e-6


def test_distances_equal_brute_force_without_refinement(bumpy):
    v, f, points = bumpy
    rng = np.random.default_rng(3)
    scan = v[rng.integers(len(v), size=40)] + rng.normal(scale=0.01, size=(40, 3))
    measured = measure(whole(scan, points), Surface(v, f), points, UNREFINED).distances
    brute = trimesh.triangles.closest_point(np.repeat(v[f], 40, axis=0), np.tile(scan, (len(f), 1)))
    brute = np.linalg.norm(brute - np.tile(scan, (len(f), 1)), axis=1).reshape(len(f), 40).min(0)
    np.testing.assert_allclose(measured, brute, atol=1e-9)


def test_face_crop_is_the_protocols_ball():
    seven = np.array([[-4, 4, 0], [-2, 4, 0], [2, 4, 0], [4, 4, 0], [0, 0, 0], [-2, -3, 0], [2, -3, 0]], float)
    radius = 1.4 * (8 + 4) / 2  # outer eye distance 8, bridge to nose 4
    inside, outside = np.array([0, 1.2 + radius - 0.01, 0]), np.array([0, 1.2 + radius + 0.01, 0])
    assert crop_face(np.array([inside, outside]), seven).tolist() == [True, False]
    assert scan_face(np.array([outside, inside]), seven).kept.tolist() == [1]


def test_a_scan_without_a_face_is_refused():
    seven = np.array([[-4, 4, 0], [-2, 4, 0], [2, 4, 0], [4, 4, 0], [0, 0, 0], [-2, -3, 0], [2, -3, 0]], float)
    with pytest.raises(ValueError, match="do not belong together"):
        scan_face(seven + 1000, seven)


def test_the_metrical_quirk_keeps_the_scaled_fits_translation(bumpy):
    points = bumpy[2]
    target = points * 1100 + 50
    quirk = landmark_pose(target, points, NOW_METRICAL, "m")
    scaled = procrustes(points, target)
    assert quirk.scale == 1000
    np.testing.assert_allclose(quirk.translation, scaled.translation)
    corrected = landmark_pose(target, points, Protocol("x", metrical=True, quirks=False), "m")
    np.testing.assert_allclose(corrected.apply(points).mean(0), target.mean(0))


def test_spatial_order_is_a_permutation_that_keeps_neighbours_together():
    points = np.random.default_rng(0).random((5000, 3))
    order = spatial_order(points)
    assert sorted(order) == list(range(5000))
    along = np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()
    assert along < 0.2 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
