"""Faces in a mirror: the mirrored parameters are those of the mirrored picture."""

from __future__ import annotations

import pytest
import torch

from tokenface.data.augment import Mirror
from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head
from tokenface.render.renderer import Renderer

SIZE = 96


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def faces(head):
    return SyntheticFaces(head, SIZE).sample(6, seed=3, plain=True)


def test_mirrored_parameters_draw_the_mirrored_picture(head, faces):
    renderer, mirror = Renderer(head), Mirror(head)
    own, other = faces.parameters, mirror.parameters(faces.parameters)
    drawn = renderer.render(own, SIZE)

    def distance(parameters) -> float:
        mirrored = renderer.render(parameters, SIZE)
        both = drawn.weight.flip(-1) * mirrored.weight
        difference = (drawn.image.flip(-1) - mirrored.image).abs().mean(1)
        return float((difference * both).sum() / both.sum())

    assert distance(other) < 0.02
    for name in ("shape", "expression", "camera", "light", "texture"):  # each of them has its part in it
        assert distance(other.replace(**{name: getattr(own, name)})) > 1.2 * distance(other), name


def test_rows_that_are_not_chosen_stay_and_twice_mirrored_is_the_face_itself(head, faces):
    mirror = Mirror(head)
    chosen = torch.tensor([True, False, True, False, True, False])
    image, points, parameters = mirror.rows(chosen, faces.image, faces.landmarks68, faces.parameters)
    assert torch.equal(image[~chosen], faces.image[~chosen])
    assert torch.equal(points[~chosen], faces.landmarks68[~chosen])
    assert torch.equal(image[chosen], faces.image[chosen].flip(-1))
    again, back, own = mirror.rows(chosen, image, points, parameters)
    assert torch.equal(again, faces.image)
    torch.testing.assert_close(back, faces.landmarks68)
    for name in ("shape", "expression", "jaw", "camera", "light"):
        torch.testing.assert_close(getattr(own, name), getattr(faces.parameters, name))
