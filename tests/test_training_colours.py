"""Texture and light from photos: the loss is smallest at the truth, and moves nothing but these two."""

from __future__ import annotations

import pytest
import torch

from tokenface.head.registry import load_head
from tokenface.network import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.training.objective import ColourObjective


@pytest.fixture(scope="module")
def scene():
    head = load_head("openhead")
    generator, sizes = torch.Generator().manual_seed(0), head.sizes
    light = 0.1 * torch.randn(2, 9, 3, generator=generator)
    light[:, 0] += 3
    truth = FaceParameters(
        shape=torch.randn(2, sizes.shape, generator=generator),
        expression=torch.zeros(2, sizes.expression),
        jaw=torch.zeros(2, 3),
        camera=torch.tensor([[8.0, 0.1, 0.2, 0.0, 0.0, 0.1, 0.0]]).expand(2, -1),
        texture=torch.randn(2, sizes.texture, generator=generator),
        light=light.flatten(1),
    )
    image = Renderer(head).render(truth, 192).image.clamp(0, 1)
    return ColourObjective(head), truth, image


def test_the_loss_is_smallest_at_the_true_texture_and_light(scene):
    objective, truth, image = scene
    right = objective(truth, image)
    assert float(right.max()) < 0.02
    for name in ("texture", "light"):
        assert (objective(truth.replace(**{name: getattr(truth, name).flip(0)}), image) > 1.5 * right).all(), name


def test_only_texture_and_light_are_moved(scene):
    objective, truth, image = scene
    moved = FaceParameters(**{name: value.clone().requires_grad_() for name, value in truth.items()})
    objective(moved.replace(texture=moved.texture * 0.5, light=moved.light * 0.9), image).sum().backward()
    for name, value in moved.items():
        has = value.grad is not None and float(value.grad.abs().max()) > 0
        assert has == (name in ("texture", "light")), name
