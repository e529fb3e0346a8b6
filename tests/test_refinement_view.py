"""The refinement's camera: against the pinhole and orthographic cameras, and its derivatives against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.refinement.view import Y_UP, View, camera_of, view_of

PIVOT = np.array([0.002, 0.01, 0.09])


def face_points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 3)) * [0.06, 0.09, 0.05] + PIVOT


def crop_camera(angle: float = 0.3, centre=(700.0, 300.0)) -> FaceCamera:
    turn = Rotation.from_euler("ZYX", [5, 30, -12], degrees=True).as_rotvec()
    vector = np.array([9.0, *turn, 0.05, 0.2, 0.0])
    return FaceCamera(vector, Crop(centre, 420.0, angle), (1200, 1600))


def test_without_focal_length_the_view_is_the_orthographic_camera():
    camera, points = crop_camera(), face_points()
    view = view_of(camera, PIVOT)
    on_photo = camera.crop.to_photo(view.project(points) * Y_UP)
    np.testing.assert_allclose(on_photo, camera.project(points), atol=1e-9)
    again = camera_of(view, camera, points)
    np.testing.assert_allclose(again.vector, camera.vector, atol=1e-9)
    assert again.lens is None


@pytest.mark.parametrize("focal", [700.0, 1500.0, 40_000.0])
@pytest.mark.parametrize("angle", [0.0, -0.8, 2.5])
def test_a_perspective_view_is_the_pinhole_camera_that_it_becomes(focal, angle):
    camera, points = crop_camera(angle), face_points()
    view = view_of(camera, PIVOT, focal).moved(np.array([0.1, -0.2, 0.05, 0.1, 0.03, -0.02]))
    lens = camera_of(view, camera, points).lens
    assert lens is not None
    np.testing.assert_allclose(lens.K, [[focal, 0, 800], [0, focal, 600], [0, 0, 1]])
    np.testing.assert_allclose(lens.R @ lens.R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(lens.R) == pytest.approx(1)
    np.testing.assert_allclose(camera.crop.to_photo(view.project(points) * Y_UP), lens.project(points), atol=1e-7)
    assert (lens.R @ PIVOT + lens.t)[2] == pytest.approx(view.distance)


def test_the_start_of_a_perspective_view_is_the_pinhole_of_the_same_focal_length():
    camera = crop_camera()
    started = camera_of(view_of(camera, PIVOT, 1500.0), camera, face_points()).lens
    direct = camera.pinhole(1500.0, PIVOT)
    np.testing.assert_allclose(started.R, direct.R, atol=1e-9)
    np.testing.assert_allclose(started.t, direct.t, rtol=1e-3)


def test_the_orthographic_camera_of_a_perspective_view_is_near_it_and_keeps_its_angles():
    camera, points = crop_camera(), face_points()
    refined = camera_of(view_of(camera, PIVOT, 60_000.0), camera, points)
    flat = FaceCamera(refined.vector, camera.crop, camera.photo_size)
    assert np.abs(flat.project(points) - refined.project(points)).max() < 1.0  # of 420
    assert refined.angles == pytest.approx(camera.angles, abs=1e-6)


@pytest.mark.parametrize("focal", [None, 6.0])
def test_derivatives_of_the_view_are_those_of_finite_differences(focal):
    rotation = Rotation.from_euler("ZYX", [-20, 40, 15], degrees=True).as_matrix()
    view = View(rotation, 9.0, np.array([0.1, -0.2]), PIVOT, focal, np.array([0.6, 0.3]))
    points, step = face_points(), 1e-6
    by_point, own = view.derivatives(points)
    for axis in range(3):
        moved = points + step * np.eye(3)[axis]
        np.testing.assert_allclose(by_point[:, :, axis], (view.project(moved) - view.project(points)) / step, atol=1e-4)
    for unknown in range(6):
        delta = step * np.eye(6)[unknown]
        moved = view.moved(delta)
        np.testing.assert_allclose(own[:, :, unknown], (moved.project(points) - view.project(points)) / step, atol=1e-4)
        np.testing.assert_allclose(moved.difference(view), delta, atol=1e-9)


def test_a_nearer_face_shows_more_of_its_middle():
    """At arm's length the nose grows against the ears: what a selfie does."""
    camera = crop_camera(angle=0, centre=(800, 600))
    nose, ear = PIVOT + np.array([[0, 0, 0.04], [0.07, 0, -0.08]])

    def ratio(focal):
        view = view_of(camera, PIVOT, focal)
        straight = View(np.eye(3), view.scale, view.place, PIVOT, view.focal, view.principal)
        shift = 0.01 * np.array([1.0, 0, 0])
        near, far = (np.linalg.norm(np.diff(straight.project(np.stack([p, p + shift])), axis=0)) for p in (nose, ear))
        return near / far

    assert ratio(None) == pytest.approx(1)
    selfie = 0.3 * camera.pixels_per_metre  # the focal length that puts the face at 30 cm
    assert ratio(selfie) == pytest.approx((0.3 + 0.08) / (0.3 - 0.04), rel=0.05)
    assert math.isinf(view_of(camera, PIVOT).distance)


def test_a_resized_head_looks_the_same():
    camera, points = crop_camera(), face_points()
    lensed = camera_of(view_of(camera, PIVOT, 900.0), camera, points)
    for one in (camera, lensed):
        np.testing.assert_allclose(one.resized(1.07).project(points * 1.07), one.project(points), atol=1e-8)
    assert lensed.resized(1.07).lens.t[2] == pytest.approx(1.07 * lensed.lens.t[2])
