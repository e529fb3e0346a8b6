"""One face, three conventions: OpenCV, OpenGL and ours put every point on the same pixel, there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera, OpenGLCamera, PinholeCamera, from_opengl, to_opengl
from tokenface.refinement.view import Y_UP, camera_of, view_of

PIXELS = 1e-5
SIZE = (1080, 1920)


def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 3)) * [0.06, 0.1, 0.05] + [0, 0, 0.08]


def pinhole(seed: int) -> PinholeCamera:
    random = np.random.default_rng(seed)
    k = np.array([[1500.0, 0, 900 + 40 * random.normal()], [0, 1480.0, 560.0], [0, 0, 1]])
    turn = Rotation.from_euler("ZYX", random.normal(size=3) * 25, degrees=True).as_matrix()
    return PinholeCamera(k, np.diag([1.0, -1, -1]) @ turn, np.array([0.1, -0.05, random.uniform(0.25, 3)]))


@pytest.mark.parametrize("seed", range(5))
def test_opencv_itself_agrees(seed):
    camera = pinhole(seed)
    rotation = cv2.Rodrigues(camera.R)[0]
    theirs = cv2.projectPoints(points(), rotation, camera.t, camera.K, None)[0][:, 0]
    assert np.abs(theirs - camera.project(points())).max() < PIXELS


@pytest.mark.parametrize("seed", range(5))
def test_opencv_to_opengl_and_back(seed):
    camera = pinhole(seed)
    there = to_opengl(camera, SIZE)
    assert np.abs(there.project(points()) - camera.project(points())).max() < PIXELS
    back = from_opengl(there)
    np.testing.assert_allclose(back.K, camera.K, atol=1e-9)
    assert np.abs(back.project(points()) - camera.project(points())).max() < PIXELS


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
@pytest.mark.parametrize("focal", [500.0, 1500.0, 9000.0])
def test_ours_to_opencv_to_opengl_and_back(angle, focal):
    turn = Rotation.from_euler("ZYX", [-10, 35, 8], degrees=True).as_rotvec()
    crop = Crop((1200.0, 400.0), 500.0, angle)
    face = FaceCamera(np.array([8.5, *turn, 0.1, 0.15, 0.0]), crop, SIZE)
    pivot = np.array([0, 0, 0.08])
    view = view_of(face, pivot, focal)
    ours = crop.to_photo(view.project(points()) * Y_UP)
    lensed = camera_of(view, face, points())
    assert np.abs(lensed.project(points()) - ours).max() < PIXELS
    opengl = to_opengl(lensed.lens, SIZE)
    assert np.abs(opengl.project(points()) - ours).max() < PIXELS
    back = FaceCamera(lensed.vector, crop, SIZE, from_opengl(opengl))
    assert np.abs(back.project(points()) - ours).max() < PIXELS


def test_opengl_sees_what_is_in_front_and_upright():
    """A window's clip space: the head's top is above its chin, its left on the right, its nose nearer."""
    camera = PinholeCamera(
        np.array([[1000.0, 0, 960], [0, 1000, 540], [0, 0, 1]]), np.diag([1.0, -1, -1]), np.array([0, 0, 1.0])
    )
    there = to_opengl(camera, SIZE)

    def clip(point):
        x, y, z, w = there.projection @ there.view @ [*point, 1]
        assert w > 0
        return np.array([x, y, z]) / w

    top, chin, left, nose = clip([0, 0.1, 0]), clip([0, -0.1, 0]), clip([0.1, 0, 0]), clip([0, 0, 0.1])
    assert top[1] > 0 > chin[1]
    assert left[0] > 0
    assert nose[2] < top[2]
    assert np.abs(nose).max() < 1


def test_an_orthographic_projection_is_no_pinhole():
    with pytest.raises(ValueError, match="perspective"):
        from_opengl(OpenGLCamera(np.eye(4), np.eye(4), SIZE))
