"""Warped faces: the picture and the points move as a rendering of the changed face does."""

from __future__ import annotations

import pytest
import roma
import torch

from tokenface.data.sampling import rotation_from_angles
from tokenface.data.warping import move_points, warp_faces
from tokenface.geometry.camera import Camera
from tokenface.head.registry import load_head
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.render.shading import ambient_light

SIZE, FACES = 128, 4


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def renderer(head):
    return Renderer(head)


@pytest.fixture(scope="module")
def before(head) -> FaceParameters:
    generator = torch.Generator().manual_seed(3)
    yaw = torch.deg2rad(torch.tensor([0.0, 20.0, -30.0, 10.0]))
    rotation = roma.rotmat_to_rotvec(rotation_from_angles(yaw, yaw * 0.2, yaw * 0.5))
    camera = torch.cat([torch.full((FACES, 1), 8.0), rotation, torch.zeros(FACES, 3)], dim=1)
    camera[:, 5] = 0.1
    return FaceParameters(
        shape=torch.randn(FACES, head.sizes.shape, generator=generator) * 0.7,
        expression=torch.zeros(FACES, head.sizes.expression),
        jaw=torch.zeros(FACES, 3),
        camera=camera,
        texture=torch.randn(FACES, head.sizes.texture, generator=generator),
        light=ambient_light(FACES).flatten(1),
    )


def other_shape(head, before: FaceParameters) -> FaceParameters:
    change = torch.randn(FACES, head.sizes.shape, generator=torch.Generator().manual_seed(8))
    return before.replace(shape=before.shape + change * 0.8)


def raised(head, before: FaceParameters, names: tuple[str, ...], weight: float) -> FaceParameters:
    expression = before.expression.clone()
    expression[:, [head.expression_names.index(name) for name in names]] = weight
    return before.replace(expression=expression)


def landmarks(head, parameters: FaceParameters) -> torch.Tensor:
    vertices = head(parameters.shape, parameters.expression, parameters.jaw).vertices
    return Camera.from_vector(parameters.camera).project(head.landmarks68(vertices))[:, 17:, :2]


def test_without_a_change_pictures_and_points_stay(head, before):
    images = torch.rand(FACES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    warped = warp_faces(images, head, before, before)
    torch.testing.assert_close(warped.images, images, atol=1e-4, rtol=0)
    assert float(warped.flow.abs().max()) < 1e-6
    assert torch.equal(warped.parameters.camera, before.camera)
    points = landmarks(head, before)
    torch.testing.assert_close(move_points(warped.flow, points), points, atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", ["shape", "brows", "smile"])
def test_a_warped_picture_is_nearly_the_rendering_of_the_changed_face(head, renderer, before, change):
    after = {
        "shape": lambda: other_shape(head, before),
        "brows": lambda: raised(head, before, ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 0.9),
        "smile": lambda: raised(head, before, ("mouthSmileLeft", "mouthSmileRight"), 0.6),
    }[change]()
    start = renderer.render(before, SIZE)
    warped = warp_faces(start.image, head, before, after)
    end = renderer.render(warped.parameters, SIZE)
    inside = (end.mask & start.mask)[:, None]
    left = ((warped.images - end.image).abs() * inside).sum((1, 2, 3))
    unmoved = ((start.image - end.image).abs() * inside).sum((1, 2, 3))
    assert (left < 0.5 * unmoved).all(), (left / unmoved).tolist()


def test_points_move_as_the_landmarks_of_the_changed_face(head, renderer, before):
    after = other_shape(head, before)
    warped = warp_faces(renderer.render(before, SIZE).image, head, before, after)
    start, end = landmarks(head, before), landmarks(head, warped.parameters)
    found = move_points(warped.flow, start)
    error, moved = (found - end).norm(dim=-1), (start - end).norm(dim=-1)
    assert float(error.mean()) < 0.15 * float(moved.mean())


def test_a_changed_shape_neither_moves_nor_grows_nor_turns_the_face(head, before):
    after = other_shape(head, before)
    images = torch.zeros(FACES, 3, SIZE, SIZE)
    camera = Camera.from_vector(warp_faces(images, head, before, after).parameters.camera)
    face = torch.from_numpy(head.data.regions["face"].astype("int64"))
    start = Camera.from_vector(before.camera).project(head(before.shape).vertices)[:, face, :2].double()
    end = camera.project(head(after.shape).vertices)[:, face, :2].double()
    torch.testing.assert_close(end.mean(1), start.mean(1), atol=1e-5, rtol=0)
    a, b = end - end.mean(1, keepdim=True), start - start.mean(1, keepdim=True)
    size = (a * a).sum((1, 2))
    torch.testing.assert_close((a * b).sum((1, 2)) / size, torch.ones_like(size), atol=1e-5, rtol=0)
    turn = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1)
    torch.testing.assert_close(turn / size, torch.zeros_like(size), atol=1e-5, rtol=0)


def test_far_from_the_head_nothing_moves(head, before):
    small = before.replace(camera=before.camera * torch.tensor([0.25, 1, 1, 1, 1, 1, 1]))
    warped = warp_faces(torch.zeros(FACES, 3, SIZE, SIZE), head, small, other_shape(head, small))
    assert float(warped.flow[:, :8].abs().max()) < 1e-5
    assert float(warped.flow.abs().max()) > 1e-3
