"""Training of face parsing on rendered heads; writes the package's weights.

    python -m tokenface.training.face_parsing FOLDER [--pictures 12000] [--steps 2000] [--backgrounds PHOTOS]
                                              [--output FILE]

FOLDER keeps the rendered pictures and the state: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tokenface.core.files import write_atomically
from tokenface.data.backgrounds import sample_backgrounds
from tokenface.data.degrade import Degradation, degrade
from tokenface.data.draw import Draw
from tokenface.data.sampling import Framing
from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.head.registry import load_head
from tokenface.parsing.graph import WEIGHTS as SHIPPED
from tokenface.parsing.network import ParsingNetwork
from tokenface.parsing.parser import LOWERED, SCALE
from tokenface.parsing.regions import BACKGROUND, REGIONS, SIZE

CHUNK = 250
"""Pictures per file."""
RENDERED = 50
"""Pictures drawn at once."""
SEED, HELD_OUT_SEED = 91_000_000, 92_000_000
"""People of their own: neither other trainings nor benchmarks use them."""
HELD_OUT = 500
BATCH = 16
RATE, DECAY = 1.5e-3, 1e-2
WARM_UP = 100
EMA = 0.997
SAVED = 100
"""Steps from state to state."""
WEIGHTS = (0.6, 1.0, 1.6, 2.0, 1.2, 1.2, 2.5, 0.8, 1.0)
"""Of the regions in the loss: what is small or easily missed counts more."""
SWAPPED = 0.6
"""Share of pictures whose background is another one than rendered."""


@dataclass(frozen=True)
class Pictures:
    """images: [N, S, S, 3] uint8 sRGB.  labels: [N, S, S] uint8."""

    images: np.ndarray
    labels: np.ndarray


def framing() -> Framing:
    """As `parsing_crop` cuts, and somewhat off."""
    return Framing(zoom=(SCALE * 0.88, SCALE * 1.12), shift=0.05, lowered=LOWERED)


def render(folder: Path, count: int, seed: int, backgrounds: Tensor | None) -> Pictures:
    """Pictures kept in the folder; what is missing is drawn. Clean: they are degraded anew whenever they are shown."""
    folder.mkdir(parents=True, exist_ok=True)
    config = SyntheticConfig(
        framing=framing(),
        chances=Chances(glasses=0.3, hat=0.15, occluder=0.25),
        degradation=Degradation(full_resolution=1, blur=0, motion=0, noise=0, jpeg=0, grey=0, colour=0),
    )
    faces: SyntheticFaces | None = None
    images, labels = [], []
    for chunk in range(math.ceil(count / CHUNK)):
        path = folder / f"{chunk:05d}.npz"
        if not path.is_file():
            faces = faces or SyntheticFaces(load_head("openhead"), SIZE, config, backgrounds=backgrounds)
            seeds = range(seed + chunk * CHUNK, seed + (chunk + 1) * CHUNK, RENDERED)
            drawn = [faces.sample(RENDERED, each, regions=True) for each in seeds]
            with path.with_suffix(".part").open("wb") as file:
                np.savez(
                    file,
                    images=np.concatenate([_bytes(batch.image) for batch in drawn]),
                    labels=np.concatenate([batch.regions.numpy() for batch in drawn if batch.regions is not None]),
                )
            path.with_suffix(".part").replace(path)
            print(f"{folder.name}: {(chunk + 1) * CHUNK} pictures", flush=True)
        with np.load(path, allow_pickle=False) as stored:
            images.append(stored["images"])
            labels.append(stored["labels"])
    return Pictures(np.concatenate(images)[:count], np.concatenate(labels)[:count])


def _bytes(images: Tensor) -> np.ndarray:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def shown(pictures: Pictures, chosen: np.ndarray, draw: Draw, backgrounds: Tensor | None) -> tuple[Tensor, Tensor]:
    """[B, 3, S, S] as cameras leave them, and [B, S, S] labels: mirrored, turned, zoomed, other backgrounds."""
    images = torch.from_numpy(pictures.images[chosen]).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(pictures.labels[chosen].astype(np.int64))
    batch = len(chosen)
    behind = sample_backgrounds(draw, batch, SIZE, backgrounds)
    free = F.avg_pool2d((labels == BACKGROUND).float()[:, None], 3, 1, 1) * draw.chance(batch, 1, 1, 1, p=SWAPPED)
    images = torch.lerp(images, behind, free.clamp(0, 1))
    angle = draw.normal(batch, std=math.radians(6))
    zoom = draw.uniform(batch, low=0.9, high=1.1)
    flip = 1.0 - 2.0 * draw.index(batch, count=2)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([torch.stack([cos * flip, -sin], -1), torch.stack([sin * flip, cos], -1)], 1)
    place = torch.cat([rows, draw.normal(batch, 2, 1, std=0.04)], dim=2)
    grid = F.affine_grid(place, [batch, 1, SIZE, SIZE], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    labels = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    gain = torch.exp(draw.normal(batch, 3, 1, 1, std=0.08) + draw.normal(batch, 1, 1, 1, std=0.25))
    return degrade(draw, (images * gain).clamp(0, 1)), labels[:, 0].long()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross entropy at the network's pixels, and 1 less the regions' soft overlaps (Dice)."""
    step = labels.shape[-1] // logits.shape[-1]
    labels = labels[:, step // 2 :: step, step // 2 :: step]
    entropy = F.cross_entropy(logits, labels, logits.new_tensor(WEIGHTS))
    shares = logits.softmax(1)
    truth = F.one_hot(labels, len(REGIONS)).permute(0, 3, 1, 2).to(shares)
    both, either = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    return entropy + (1 - (2 * both + 1) / (either + 1)).mean()


@torch.no_grad()
def overlaps(network: torch.nn.Module, pictures: Pictures, seed: int = 5) -> dict[str, float]:
    """Intersection over union of each region on degraded pictures."""
    draw = Draw.seeded(seed, "cpu")
    both, either = torch.zeros(len(REGIONS)), torch.zeros(len(REGIONS))
    for first in range(0, len(pictures.images), BATCH):
        images = torch.from_numpy(pictures.images[first : first + BATCH]).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(pictures.labels[first : first + BATCH].astype(np.int64))
        logits = network(degrade(draw, images).to(memory_format=torch.channels_last))
        found = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False).argmax(1)
        for region in range(len(REGIONS)):
            a, b = found == region, labels == region
            both[region] += (a & b).sum()
            either[region] += (a | b).sum()
    return {name: round(float(both[k] / either[k].clamp(min=1)), 4) for k, name in enumerate(REGIONS)}


def train(
    pictures: Pictures,
    held_out: Pictures,
    folder: Path,
    steps: int,
    backgrounds: Tensor | None,
    until: int | None = None,
) -> ParsingNetwork:
    """Returns the moving average of the weights. until: a step to stop at before the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    network = ParsingNetwork().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(EMA), use_buffers=True)
    state_path = folder / "state.pt"
    first = 0
    if state_path.is_file():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average.load_state_dict(state["average"])
        first = state["step"]
    batches = _shuffled(len(pictures.images), first)
    losses: list[float] = []
    for step in range(first, until or steps):
        rate = RATE * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        draw = Draw.seeded(step, "cpu")
        images, labels = shown(pictures, next(batches), draw, backgrounds)
        loss = loss_of(network(images.contiguous(memory_format=torch.channels_last)), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        average.update_parameters(network)
        losses.append(float(loss.detach()))
        if (step + 1) % SAVED == 0 or step + 1 == steps:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save({**state, "average": average.state_dict()}, state_path.with_suffix(".part"))
            state_path.with_suffix(".part").replace(state_path)
            quick = Pictures(held_out.images[:96], held_out.labels[:96])
            found = overlaps(average.eval(), quick)
            print(f"step {step + 1}: loss {np.mean(losses):.3f}, overlaps {json.dumps(found)}", flush=True)
            losses = []
    trained = average.module
    assert isinstance(trained, ParsingNetwork)
    return trained.eval()


def _shuffled(count: int, first: int) -> Iterator[np.ndarray]:
    """Batches without end, each picture once per round; the same ones whenever it begins at `first` again."""
    step = 0
    for turn in range(1_000_000):
        order = np.random.default_rng(turn).permutation(count)
        for start in range(0, count - BATCH + 1, BATCH):
            if step >= first:
                yield order[start : start + BATCH]
            step += 1


def read_backgrounds(folder: Path | None, side: int = 256) -> Tensor | None:
    """[N, 3, side, side] middle squares of the folder's pictures, which should show nobody."""
    if folder is None:
        return None
    squares = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}):
        image = cv2.imread(str(path))
        if image is not None:
            edge = min(image.shape[:2])
            top, left = (image.shape[0] - edge) // 2, (image.shape[1] - edge) // 2
            middle = image[top : top + edge, left : left + edge, ::-1]
            square = cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA)
            squares.append(torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float() / 255)
    return torch.stack(squares) if squares else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--backgrounds", type=Path, help="folder of photos without people")
    parser.add_argument("--output", type=Path, help="default: the package's own file")
    options = parser.parse_args()
    backgrounds = read_backgrounds(options.backgrounds)
    held_out = render(options.folder / "held_out", HELD_OUT, HELD_OUT_SEED, None)
    pictures = render(options.folder / "pictures", options.pictures, SEED, backgrounds)
    network = train(pictures, held_out, options.folder, options.steps, backgrounds)
    found = overlaps(network, held_out)
    print(f"held-out overlaps: {json.dumps(found)}; mean {np.mean(list(found.values())):.3f}")
    facts = {"pictures": str(options.pictures), "steps": str(options.steps), "overlaps": json.dumps(found)}
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    output = options.output or Path(__file__).parents[1] / "assets" / SHIPPED
    write_atomically(output, save(tensors, facts))
    print(f"written: {output}, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
