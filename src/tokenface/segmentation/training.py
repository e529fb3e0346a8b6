"""Training of the segmentation network on rendered heads, whose every pixel's surface is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.data.sampling import Framing
from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import GENERATOR_VERSION, SyntheticConfig, SyntheticFaces
from tokenface.head.model import HeadModel
from tokenface.segmentation.network import CLASSES, SIDE, SegmentationNetwork

MIRROR = 0.5


@dataclass(frozen=True)
class SegmentationTraining:
    """pictures: rendered once and kept.  passes: over them.  held_out: of them, judged at the end and never shown.
    batch: per step.  rate: largest learning rate of a one-cycle schedule.  zoom: crop side over the landmark box."""

    pictures: int = 4096
    held_out: int = 256
    passes: int = 6
    batch: int = 16
    rate: float = 4e-3
    zoom: tuple[float, float] = (1.75, 2.3)
    seed: int = 7


def render_pictures(head: HeadModel, count: int, seed: int, options: SegmentationTraining) -> tuple[Tensor, Tensor]:
    """Images [N, 3, SIDE, SIDE] uint8 and surfaces [N, SIDE, SIDE] uint8 of heads with much hair and many covers."""
    config = SyntheticConfig(
        framing=Framing(zoom=options.zoom, shift=0.08), chances=Chances(glasses=0.3, hat=0.12, occluder=0.25)
    )
    faces = SyntheticFaces(head, SIDE, config)
    images, surfaces = [], []
    for first in range(0, count, 32):
        batch = faces.sample(min(32, count - first), seed + first)
        images.append((batch.image * 255).round().to(torch.uint8))
        surfaces.append(batch.surface)
    return torch.cat(images), torch.cat(surfaces)


def train(
    images: Tensor, surfaces: Tensor, options: SegmentationTraining, report: Callable[[str], object] = print
) -> tuple[SegmentationNetwork, dict[str, object]]:
    """A network and its provenance. images: [N, 3, S, S] uint8.  surfaces: [N, S, S] uint8."""
    draw = torch.Generator().manual_seed(options.seed)
    torch.manual_seed(options.seed)
    network = SegmentationNetwork().to(memory_format=torch.channels_last)
    shown = len(images) - options.held_out
    steps = options.passes * (shown // options.batch)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=steps)
    weights = torch.tensor([0.7, 1.0, 1.0, 1.2, 1.5, 1.5])
    done = 0
    for _ in range(options.passes):
        order = torch.randperm(shown, generator=draw)
        for rows in order[: shown // options.batch * options.batch].view(-1, options.batch):
            x, y = images[rows].float() / 255, surfaces[rows].long()
            if torch.rand((), generator=draw) < MIRROR:
                x, y = x.flip(-1), y.flip(-1)
            loss = F.cross_entropy(network(_recoloured(x, draw)), y, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            done += 1
            if done % 100 == 0:
                report(f"step {done} of {steps}: loss {float(loss.detach()):.3f}")
    network.eval()
    agreement = intersection_over_union(network, images[shown:], surfaces[shown:])
    facts: dict[str, object] = {
        "trained_on": f"{shown} heads rendered by tokenface.data.synthetic, generator {GENERATOR_VERSION}; no photo",
        "recipe": f"scripts/train_segmentation.py: {options}",
        "licence": "Apache-2.0",
        "intersection_over_union": {name: round(value, 4) for name, value in agreement.items()},
    }
    return network, facts


@torch.inference_mode()
def intersection_over_union(network: SegmentationNetwork, images: Tensor, surfaces: Tensor) -> dict[str, float]:
    """Per class, over all pixels of the pictures: [N, 3, S, S] uint8 and [N, S, S] uint8."""
    count = len(CLASSES)
    table = torch.zeros(count, count)
    for x, y in zip(images.split(64), surfaces.split(64), strict=True):
        found = network(x.float() / 255).argmax(1)
        table += torch.bincount((y.long() * count + found).flatten(), minlength=count * count).view(count, count)
    both = table.diagonal()
    return dict(zip(CLASSES, (both / (table.sum(0) + table.sum(1) - both).clamp(min=1)).tolist(), strict=True))


def _recoloured(images: Tensor, draw: torch.Generator) -> Tensor:
    """Exposure, contrast and white balance as cameras vary them, on top of the generator's own."""
    count = len(images)
    gain = torch.exp(0.22 * torch.randn(count, 1, 1, 1, generator=draw))
    gain = gain * torch.exp(0.07 * torch.randn(count, 3, 1, 1, generator=draw))
    gamma = torch.exp(0.15 * torch.randn(count, 1, 1, 1, generator=draw))
    return (images.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1)
