"""The ring gives back what was put in, and a repeated step sees the same faces."""

from __future__ import annotations

import pytest
import torch

from tokenface.data.replay import LabelledFaces, ReplayRing
from tokenface.parameters import COMPONENTS, ComponentSizes, FaceParameters

SIZES = ComponentSizes(shape=5, expression=4, texture=3)


def faces(first: int, count: int) -> LabelledFaces:
    """Faces whose every number is their running number."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    return LabelledFaces(
        image=(number % 255 / 255)[:, None, None, None].expand(count, 3, 8, 8).clone(),
        landmarks68=number[:, None, None].expand(count, 68, 2).clone(),
        parameters=FaceParameters(**{n: number[:, None].expand(count, SIZES[n]).clone() for n in COMPONENTS}),
    )


def test_image_landmarks_and_parameters_belong_together(tmp_path):
    ring = ReplayRing(tmp_path, 40, 8, SIZES, guard=8)
    for first in range(0, 100, 10):
        ring.write(first, faces(first, 10))
    drawn = ring.draw(100, 200, seed=0)
    number = drawn.landmarks68[:, 0, 0]
    for name in COMPONENTS:
        assert (getattr(drawn.parameters, name) == number[:, None]).all()
    torch.testing.assert_close(drawn.image[:, 0, 0, 0] * 255, number % 255)
    assert number.min() >= 100 - 40 + 8
    assert number.max() == 99


def test_steps_repeated_after_a_kill_see_the_same_faces(tmp_path):
    ring = ReplayRing(tmp_path, 40, 8, SIZES, guard=16)
    for first in range(0, 80, 8):
        ring.write(first, faces(first, 8))
    before = ring.draw(80, 32, seed=4).landmarks68
    ring.write(80, faces(80, 8))
    ring.write(88, faces(88, 8))  # killed here; the state on disk says 80
    again = ReplayRing(tmp_path, 40, 8, SIZES, guard=16)
    torch.testing.assert_close(again.draw(80, 32, seed=4).landmarks68, before, rtol=0, atol=0)


def test_a_guard_as_large_as_the_ring_is_refused(tmp_path):
    with pytest.raises(ValueError, match="larger than its guard"):
        ReplayRing(tmp_path, 8, 8, SIZES, guard=8)
