"""Samplers of the synthetic faces against closed forms and against the camera's own conventions."""

from __future__ import annotations

import pytest
import torch

from tokenface.data.draw import Draw
from tokenface.data.expressions import PATTERNS, ExpressionSampler, other_side
from tokenface.data.sampling import (
    Framing,
    PoseRange,
    View,
    best_orthographic,
    frame_faces,
    rotate_towards,
    rotation_from_angles,
    sample_distances,
    sample_rotations,
)
from tokenface.geometry.camera import Camera
from tokenface.head.arkit import ARKIT_NAMES


def face_points(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(batch, 68, 3, generator=generator) - 0.5) * torch.tensor([0.14, 0.16, 0.08])


def camera_of(rotation: torch.Tensor) -> Camera:
    view = View(rotation, torch.ones(len(rotation)), torch.zeros(len(rotation), 2), torch.ones(len(rotation)) * 1e6,
                torch.zeros(len(rotation)))  # fmt: skip
    return Camera.from_vector(best_orthographic(view, face_points(len(rotation))))


def test_rotations_have_the_angles_that_the_camera_reads():
    angles = torch.deg2rad(torch.tensor([[30.0, 0, 0], [0, 20, 0], [0, 0, 25], [-80, 10, 0]]))
    read = camera_of(rotation_from_angles(*angles.unbind(1))).angles()
    torch.testing.assert_close(read, angles, atol=1e-5, rtol=0)


def test_poses_reach_profile_and_are_mostly_frontal():
    rotation = sample_rotations(Draw.seeded(0, "cpu"), 4000, PoseRange())
    yaw = torch.rad2deg(torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2]).abs())
    assert (yaw > 80).float().mean() > 0.01
    assert 0.4 < (yaw < 20).float().mean() < 0.7
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=0)


def test_a_far_camera_is_the_orthographic_camera_of_its_label():
    draw, points = Draw.seeded(1, "cpu"), face_points(16)
    rotation = sample_rotations(draw, 16, PoseRange())
    view = frame_faces(draw, points, rotation, torch.full((16,), 1e5), Framing())
    label = Camera.from_vector(best_orthographic(view, points))
    torch.testing.assert_close(label.project(points)[..., :2], view.project(points)[..., :2], atol=1e-4, rtol=0)


def test_a_near_camera_enlarges_what_is_near_as_a_pinhole_does():
    points = torch.tensor([[[0.05, 0.02, 0.1], [0.05, 0.02, -0.1]]])
    view = View(torch.eye(3)[None], torch.tensor([10.0]), torch.zeros(1, 2), torch.tensor([0.5]), torch.zeros(1))
    near, far = view.project(points)[0]
    # pinhole at z = 0.5: size goes with 1 / (0.5 − z)
    assert float(near[0] / far[0]) == pytest.approx(0.6 / 0.4, rel=1e-5)
    assert near[2] < far[2]


def test_the_label_of_a_near_camera_is_the_least_squares_one():
    draw, points = Draw.seeded(2, "cpu"), face_points(4)
    view = frame_faces(draw, points, sample_rotations(draw, 4, PoseRange()), torch.full((4,), 0.4), Framing())
    label = best_orthographic(view, points)
    seen = view.project(points)[..., :2]

    def error(camera: torch.Tensor) -> torch.Tensor:
        return (Camera.from_vector(camera).project(points)[..., :2] - seen).square().sum((1, 2))

    best = error(label)
    assert (best > 1e-6).all()  # perspective cannot be explained away
    for column, step in ((0, 0.05), (4, 0.01), (5, -0.01)):
        moved = label.clone()
        moved[:, column] += step
        assert (error(moved) > best).all()


def test_crops_hold_faces_as_the_crop_protocol_says():
    draw, points = Draw.seeded(4, "cpu"), face_points(500)
    framing = Framing(zoom=(1.25, 1.8), shift=0.0)
    view = frame_faces(draw, points, sample_rotations(draw, 500, PoseRange()), sample_distances(draw, 500), framing)
    seen = view.project(points)[..., :2]
    low, high = seen.amin(1), seen.amax(1)
    zoom = 2 / ((high - low).mean(-1) * 1.1)
    assert zoom.min() >= 1.25 - 1e-3
    assert zoom.max() <= 1.8 + 1e-3
    torch.testing.assert_close((low + high) / 2, torch.zeros(500, 2), atol=1e-4, rtol=0)


def test_a_share_of_a_rotation_has_the_share_of_its_angle():
    angles = torch.deg2rad(torch.tensor([60.0, -40.0]))
    zero = torch.zeros(2)
    part = rotate_towards(rotation_from_angles(angles, zero, zero), torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(part, rotation_from_angles(angles * torch.tensor([0.5, 0.25]), zero, zero))


def test_expressions_are_sparse_allowed_and_move_the_jaw_once():
    sampler = ExpressionSampler(ARKIT_NAMES, (0.0, 1.0), has_jaw_joint=True)
    drawn = sampler.sample(Draw.seeded(0, "cpu"), 3000)
    assert drawn.weights.min() >= 0
    assert drawn.weights.max() <= 1
    active = (drawn.weights > 0.05).float().sum(1)
    assert 3 < active.mean() < 16
    for name in ("mouthClose", "jawOpen", "tongueOut"):
        assert (drawn.weights[:, ARKIT_NAMES.index(name)] == 0).all()
    assert (drawn.jaw[:, 0] > 0.15).float().mean() > 0.05
    assert (drawn.jaw[:, 0] >= 0).all()


def test_every_action_of_a_pattern_is_one_that_arkit_knows():
    known = set(ARKIT_NAMES)
    for _, _, actions in PATTERNS.values():
        for action in actions:
            assert {action, f"{action}Left"} & known, action


def test_both_eyes_look_the_same_way():
    drawn = ExpressionSampler(ARKIT_NAMES, (0.0, 1.0)).sample(Draw.seeded(0, "cpu"), 500)
    weights = {name: drawn.weights[:, i] for i, name in enumerate(ARKIT_NAMES)}
    to_the_right = drawn.gaze[:, 0] > 0.05
    assert (weights["eyeLookOutLeft"][to_the_right] > 0).all()
    assert (weights["eyeLookInRight"][to_the_right] > 0).all()
    assert (weights["eyeLookInLeft"][to_the_right] == 0).all()


def test_principal_component_heads_get_bounded_gaussians():
    sampler = ExpressionSampler([f"component_{i}" for i in range(100)], None)
    assert not sampler.is_arkit
    weights = sampler.sample(Draw.seeded(0, "cpu"), 2000).weights
    assert weights.abs().max() < 2.5
    assert 0.2 < weights[:, 0].std() < 1.2


@pytest.mark.parametrize(
    ("name", "other"), [("eyeBlinkLeft", "eyeBlinkRight"), ("browDown_R", "browDown_L"), ("jawOpen",) * 2]
)
def test_sides_are_found_by_name(name, other):
    assert other_side(name) == other


def test_picks_follow_their_weights_row_by_row():
    draw = Draw.seeded(0, "cpu")
    rows = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]]).repeat(2000, 1)
    picked = draw.pick(4000, rows).view(2000, 2)
    assert (picked[:, 0] == 0).all()
    assert abs((picked[:, 1] == 1).float().mean() - 0.5) < 0.05
