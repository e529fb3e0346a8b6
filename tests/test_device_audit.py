"""Generator and training step on a pretended GPU: nothing mixes devices, nothing waits but where it is known to.

No GPU is needed. The known places are the two lists below; a wait at another place, or a tensor that stayed on the
CPU, fails here.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, PretendDevice, Pretended, real

from tokenface.core.configuration import from_dict
from tokenface.data.record import PhotoRecord
from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head
from tokenface.network.tokenface import TokenFace
from tokenface.render import rasterizer
from tokenface.training.batches import Batches
from tokenface.training.config import TrainConfig
from tokenface.training.loop import Trainer
from tokenface.training.people import rendered_people
from tokenface.training.preflight import check_first_batch

raster_triton = pytest.importorskip("tokenface.render.raster_triton", reason="Triton is not installed")

SIZE = 48
SMALL = 4
"""Pixels of a triangle's box."""
GENERATOR_WAITS = {
    ("nonzero", "render/rasterizer.py:rasterize"),  # how many pixels are covered
    ("repeat_interleave", "render/raster_triton.py:_work_items"),  # how many tiles
    ("nonzero", "data/scene/picture.py:_shade_base"),  # how many pixels show cloth
}
STEP_WAITS = GENERATOR_WAITS | {
    ("copy to the CPU", "data/replay.py:write"),  # new faces go to the ring on disk
    ("_local_scalar_dense", "identity/alignment.py:faces_at"),  # how far the crops shrink
    ("_linalg_svd", "geometry/batched_similarity.py:best_rotation"),  # torch looks whether it converged
}


class Generator(torch.Generator):
    """A generator that says that it is the pretended device's; its numbers are the CPU's."""

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        made = super().__new__(cls, device="cpu")
        made.place = torch.device(device)
        return made

    def __init__(self, device: torch.device | str = "cpu"):
        pass

    @property
    def device(self) -> torch.device:
        return self.place


class Kernel:
    """What the Triton kernel does, on the numbers of pretended tensors; the kernel itself has its own test."""

    def __getitem__(self, grid) -> Kernel:
        return self

    def __call__(self, keys, owner, tile, table, count, triangles, height, width, *, FRACTION_BITS, TILE, **sizes):
        keys, owner, tile, table = (real(x) for x in (keys, owner, tile, table))
        small = table[owner][:, 2:4].amax(1) <= SMALL  # nearly all: no need to try all pixels of their tiles
        for chosen, side in ((small, SMALL), (~small, TILE)):
            _try_pixels(keys, owner[chosen], tile[chosen], table, triangles, height, width, side, FRACTION_BITS, TILE)


def _try_pixels(keys, owner, tile, table, triangles, height, width, side, fraction_bits, tile_side):
    """side: of the square of pixels that is tried in each tile."""
    row, pixel = table[owner].T[..., None], torch.arange(side * side)
    across = ((row[2] + tile_side - 1) // tile_side).clamp(min=1)
    i, j = tile[:, None] % across * tile_side + pixel % side, tile[:, None] // across * tile_side + pixel // side
    inside = (i < row[2]) & (j < row[3])
    for edge in (4, 5, 6):
        inside &= row[edge] + row[edge + 3] * i + row[edge + 6] * j >= 0
    depth = ((row[13] + row[14] * i + row[15] * j) >> fraction_bits).clamp(row[16], row[17])
    target = ((owner // triangles)[:, None] * height + row[1] + j) * width + row[0] + i
    value = (depth << 32) | (owner % triangles)[:, None]
    keys.scatter_reduce_(0, target[inside], value[inside], "amin")


class OneDevice:
    """Fabric's part in a training step, on one device in full precision."""

    device, world_size, global_rank, strategy = DEVICE, 1, 0, None

    def __init__(self) -> None:
        self.strategy = type("Strategy", (), {"precision": None})()

    def setup_module(self, module):
        return module.to(DEVICE)

    def setup_optimizers(self, optimiser):
        return optimiser

    def no_backward_sync(self, module, enabled):
        return nullcontext()

    def backward(self, loss) -> None:
        loss.backward()

    def clip_gradients(self, module, optimiser, max_norm, error_if_nonfinite):
        return torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite)


@pytest.fixture
def device(monkeypatch):
    """Everything that asks for a GPU gets the pretended one, and the way that CUDA takes."""
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(rasterizer, "_has_triton", lambda device: True)
    monkeypatch.setattr(raster_triton, "_rasterize_tiles", Kernel())
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # the step is in full precision
    with PretendDevice() as pretended:
        yield pretended


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


def test_the_generator_stays_on_its_device_and_paints_what_the_cpu_paints(device, head):
    there = SyntheticFaces(copy.deepcopy(head).to(DEVICE), SIZE)
    first = there.sample(2, 0, plain=True)
    assert all(isinstance(getattr(first, name), Pretended) for name in ("image", "vertices", "landmarks68", "mask"))
    here = SyntheticFaces(head, SIZE).sample(2, 0, plain=True)
    assert (real(first.image) - here.image).abs().mean() < 1e-3
    torch.testing.assert_close(real(first.landmarks68), here.landmarks68, atol=1e-4, rtol=1e-4)
    there.sample(2, 1)
    device.waits.clear()
    there.sample(2, 2)
    assert set(device.waits) <= GENERATOR_WAITS, device.places()


def test_a_training_step_stays_on_its_device(device, head, tmp_path):
    config = from_dict(
        TrainConfig,
        {
            "network": {"backbone": "vit_tiny_stem", "image_size": SIZE, "closeups": 1, "surface_cells": 2,
                        "label_sources": ["youtube_faces"]},
            "losses": {"photo_colours": 1.0},
            "synthetic": {"block": 2, "fresh_per_step": 2, "ring": 1000, "warm_start": 4},
            "data": {"share": 0.5, "workers": 0, "rendered_people": 4, "rendered_pictures": 2},
            "run": {"batch": 8, "checkpoint_every": 2, "folder": str(tmp_path)},
        },
    )  # fmt: skip
    shards = rendered_people(tmp_path / "people", head, 4, 2, SIZE)
    shown = SyntheticFaces(head, 64).sample(2, 5, plain=True)
    photos = [
        PhotoRecord((image.permute(1, 2, 0) * 255).byte().numpy(), (points.numpy() + 1) * 32, f"p{n}", "test")
        for n, (image, points) in enumerate(zip(shown.image, shown.landmarks68.clamp(-0.98, 0.98), strict=True))
    ]
    there = copy.deepcopy(head).to(DEVICE)
    batches = Batches(config, there, photos, tmp_path / "ring", shards)
    assert np.all(np.array(batches.counts) > 0)
    trainer = Trainer(OneDevice(), config, TokenFace(config.network, head.sizes), there, batches, None, tmp_path)
    check_first_batch(batches, trainer.progress)
    assert all(isinstance(value, Pretended) for value in trainer.model.parameters())
    before = {name: real(value).clone() for name, value in trainer.model.named_parameters()}
    trainer.step()
    device.waits.clear()
    losses = trainer.step()
    assert set(device.waits) <= STEP_WAITS, device.places()
    assert all(torch.isfinite(real(value)).all() for value in losses.values())
    moved = [name for name, value in trainer.model.named_parameters() if not torch.equal(real(value), before[name])]
    assert len(moved) > 0.9 * len(before)


def test_a_batch_that_overflows_leaves_the_moments_sound(device, head, tmp_path):
    trainer = Trainer.__new__(Trainer)
    trainer.model = torch.nn.Linear(2, 1).to(DEVICE)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    device.waits.clear()
    trainer._forget_overflow(torch.tensor(torch.inf).to(DEVICE, non_blocking=True))
    assert not device.waits
    assert all((real(parameter.grad) == 0).all() for parameter in trainer.model.parameters())
