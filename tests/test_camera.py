"""The one place where signs are fixed: what each camera number does on the picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tokenface.geometry.camera import Camera, ndc_to_pixels, pixels_to_ndc


def camera(scale=1.0, rotation=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.0)) -> Camera:
    return Camera.from_vector(torch.tensor([[scale, *rotation, *translation]]))


def pixel(point, size=200, **numbers) -> np.ndarray:
    """Where a head-space point lands on a size × size picture: x to the right, y down."""
    return ndc_to_pixels(camera(**numbers).project(torch.tensor([[point]])), size)[0, 0].numpy()


def test_the_origin_is_in_the_middle_of_the_picture():
    np.testing.assert_allclose(pixel((0.0, 0.0, 0.0)), (100, 100))


def test_the_subjects_left_is_on_the_right_and_up_is_up():
    x, y = pixel((0.1, 0.0, 0.0), scale=5.0)
    assert (x, y) == (150, 100)  # 0.1 m · 5 = half of the half-width
    x, y = pixel((0.0, 0.1, 0.0), scale=5.0)
    assert (x, y) == (100, 50)


def test_translation_is_in_half_widths_with_y_up():
    np.testing.assert_allclose(pixel((0.0, 0.0, 0.0), translation=(0.5, 0.25, 9.0)), (150, 75))


def test_the_nose_is_nearer_than_the_neck():
    depth = camera(scale=5.0).project(torch.tensor([[[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]]]))[0, :, 2]
    assert depth[0] < depth[1]


@pytest.mark.parametrize(
    ("rotation", "moves"),
    [
        ((0.0, 0.5, 0.0), (+1, 0)),  # yaw > 0: the nose points to the right side of the picture
        ((-0.5, 0.0, 0.0), (0, -1)),  # pitch > 0: the nose points up
    ],
)
def test_the_nose_goes_where_the_angles_say(rotation, moves):
    x, y = pixel((0.0, 0.0, 0.1), scale=5.0, rotation=rotation)
    np.testing.assert_array_equal(np.sign(np.round([x - 100, y - 100], 3)), moves)
    yaw, pitch, roll = camera(rotation=rotation).angles()[0]
    assert yaw == pytest.approx(0.5 * moves[0], abs=1e-6)
    assert pitch == pytest.approx(-0.5 * moves[1], abs=1e-6)
    assert roll == pytest.approx(0, abs=1e-6)


def test_positive_roll_turns_the_head_anticlockwise_on_the_picture():
    x, y = pixel((0.0, 0.1, 0.0), scale=5.0, rotation=(0.0, 0.0, 0.5))  # the crown goes to the left
    assert x < 100
    assert y < 100
    assert camera(rotation=(0.0, 0.0, 0.5)).angles()[0].tolist() == pytest.approx([0, 0, 0.5])


@pytest.mark.parametrize("yaw", [-80, -30, 0, 45, 85])
@pytest.mark.parametrize("pitch", [-60, 0, 35])
@pytest.mark.parametrize("roll", [-170, -45, 0, 90, 180])
def test_angles_invert_the_rotation_they_are_defined_by(yaw, pitch, roll):
    turn = Rotation.from_euler("ZYX", [roll, yaw, -pitch], degrees=True)
    found = camera(rotation=turn.as_rotvec()).angles()[0].numpy()
    again = Rotation.from_euler("ZYX", [found[2], found[0], -found[1]])
    assert (again * turn.inv()).magnitude() < 1e-3
    assert math.degrees(found[0]) == pytest.approx(yaw, abs=0.05)
    assert math.degrees(found[1]) == pytest.approx(pitch, abs=0.05)


def test_rotating_the_picture_changes_roll_alone():
    turn = Rotation.from_euler("ZYX", [0, 40, -20], degrees=True)
    straight = camera(rotation=turn.as_rotvec()).angles()[0]
    for degrees in (30, 90, 180, 270):
        rolled = Rotation.from_euler("Z", degrees, degrees=True) * turn
        angles = camera(rotation=rolled.as_rotvec()).angles()[0]
        torch.testing.assert_close(angles[:2], straight[:2], atol=1e-5, rtol=0)


def test_projection_equals_the_formula_of_the_paper():
    """p = s·(R·v) + t, then y and depth flip."""
    rng = np.random.default_rng(0)
    vector, points = rng.normal(size=7), rng.normal(size=(5, 3))
    p = vector[0] * points @ Rotation.from_rotvec(vector[1:4]).as_matrix().T + vector[4:]
    ours = Camera.from_vector(torch.tensor(vector[None])).project(torch.tensor(points[None]))[0]
    np.testing.assert_allclose(ours, p * [1, -1, -1], atol=1e-6)


def test_normals_are_rotated_but_neither_scaled_nor_moved():
    turn = camera(scale=7.0, rotation=(0.2, -0.4, 0.6), translation=(1.0, 2.0, 3.0))
    normals = torch.nn.functional.normalize(torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    rotated = turn.rotate(normals)
    torch.testing.assert_close(rotated.norm(dim=-1), torch.ones(1, 9))
    expected = Rotation.from_rotvec([0.2, -0.4, 0.6]).apply(normals[0].numpy())
    np.testing.assert_allclose(rotated[0], expected, atol=1e-6)


def test_vector_and_pixels_round_trip():
    vector = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Camera.from_vector(vector).to_vector(), vector)
    points = torch.rand(2, 6, 2) * 224
    torch.testing.assert_close(ndc_to_pixels(pixels_to_ndc(points, 224), 224), points)
    # the centre of the first pixel is at +0.5
    assert pixels_to_ndc(torch.tensor([0.5, 0.5]), 224)[0].item() == pytest.approx(-1 + 1 / 224)
    with pytest.raises(ValueError, match="7 numbers"):
        Camera.from_vector(torch.zeros(1, 6))


def test_gradients_reach_all_seven_numbers():
    vector = torch.tensor([[4.0, 0.1, -0.2, 0.3, 0.1, 0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    points = torch.randn(1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda v: Camera.from_vector(v).project(points), vector)
    assert torch.autograd.gradcheck(lambda v: Camera.from_vector(v).angles(), vector)
    frontal = torch.zeros(1, 7, requires_grad=True)  # the start of training: no rotation at all
    Camera.from_vector(frontal).project(points.float()).sum().backward()
    assert torch.isfinite(frontal.grad).all()
