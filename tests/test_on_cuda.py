"""What a GPU answers is what the CPU answers. Everything here needs CUDA; `python -m benchmarks.gpu` runs it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tokenface
from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def some_faces(head, count: int) -> FaceParameters:
    generator = torch.Generator().manual_seed(3)
    sizes = head.sizes
    camera = torch.tensor([7.0, 0.05, 0.3, 0.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    light = torch.zeros(count, 27)
    light[:, :3] = math.sqrt(4 * math.pi)
    return FaceParameters(
        shape=torch.randn(count, sizes.shape, generator=generator),
        expression=0.3 * torch.rand(count, sizes.expression, generator=generator),
        jaw=0.1 * torch.rand(count, 3, generator=generator),
        camera=camera,
        texture=torch.randn(count, sizes.texture, generator=generator),
        light=light,
    )


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_pictures_and_their_gradients_agree(backend):
    head = load_head()
    pictures, gradients = [], []
    for device in ("cpu", "cuda"):
        renderer = Renderer(load_head().to(device), "auto" if device == "cpu" else backend).to(device)
        faces = some_faces(head, 2).to(device)
        shape = faces.shape.requires_grad_()
        image = renderer.render(faces.replace(shape=shape), 128).image
        image.square().sum().backward()
        pictures.append(image.detach().cpu())
        gradients.append(shape.grad.cpu())
    assert (pictures[0] - pictures[1]).abs().mean() < 1e-4
    assert torch.nn.functional.cosine_similarity(*gradients, dim=1).min() > 0.99


def test_the_generator_paints_and_repeats_itself():
    faces = SyntheticFaces(load_head().to("cuda"), 64)
    first, second, other = (faces.sample(8, seed) for seed in (1, 1, 2))
    assert first.image.is_cuda
    assert (first.image - second.image).abs().mean() < 1e-3
    assert (first.image - other.image).abs().mean() > 0.05
    assert 0.1 < float(first.image.mean()) < 0.9


def test_a_photo_gives_the_same_head():
    photo = pytest.importorskip("skimage.data").astronaut()
    here, there = (tokenface.load(device=device).reconstruct(photo)[0] for device in ("cpu", "cuda"))
    assert np.abs(here.vertices - there.vertices).max() < 2e-4
    assert np.abs(here.landmarks - there.landmarks).max() < 0.1
