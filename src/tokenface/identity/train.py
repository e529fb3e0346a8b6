"""Trains the small identity encoder on synthetic people: `python -m tokenface.identity.train section.key=value …`.

Every batch is new people, several pictures of each, so nobody is ever seen twice and there is no class layer to grow.
Light, pose, expression, occlusion and colours differ between the pictures of a person; shape and skin stay.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tokenface.configuration import read_config, to_yaml
from tokenface.data.augment import colour_jitter
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import ConfigError
from tokenface.formats.files import write_atomically
from tokenface.head.registry import load_head
from tokenface.identity.alignment import aligned_faces
from tokenface.identity.small import SmallEncoder, SmallEncoderConfig, contrastive_loss, save_small_encoder
from tokenface.training.state import Progress, load_state, save_state

HELD_OUT_SEED = 424_242_424
"""People of this seed are never trained on."""


@dataclass(frozen=True)
class IdentityTrainConfig:
    """One run."""

    head: str = "openhead"
    encoder: SmallEncoderConfig = field(default_factory=SmallEncoderConfig)
    folder: str = "runs/identity"
    steps: int = 20000
    schedule_steps: int = 0  # over which the learning rate falls; 0: steps
    people: int = 24
    pictures: int = 4  # of each person in a batch
    render_size: int = 160
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    margin: float = 0.2
    temperature: float = 0.07
    colour: float = 0.8  # strength of the colour changes
    seed: int = 0
    threads: int = 0
    log_every: int = 50
    checkpoint_every: int = 200
    held_out_people: int = 64


def train_identity(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], None] = print
) -> Path:
    """Train, or go on where the folder's state stands.

    Returns:
        `<folder>/tokenface-identity.safetensors`.
    Raises:
        ConfigError, OutputError, CheckpointError: each says what to do.
    """
    config = read_config(IdentityTrainConfig, config_path, overrides)
    if config.people < 2 or config.pictures < 2:
        raise ConfigError("the identity encoder learns from at least 2 people with 2 pictures each")
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = Path(config.folder)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    faces = AlignedPeople(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = SmallEncoder(config.encoder)
    optimiser = torch.optim.AdamW(
        encoder.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    progress = Progress()
    state = folder / "state.safetensors"
    if state.is_file():
        progress = load_state(state, encoder, {}, optimiser)
    started, sums, counted = time.monotonic(), 0.0, 0
    while progress.step < config.steps:
        sums += _step(config, faces, encoder, optimiser, progress)
        counted += 1
        last = progress.step == config.steps
        if progress.step % config.log_every == 0 or last:
            rate = counted * config.people * config.pictures / (time.monotonic() - started)
            report(f"step {progress.step}/{config.steps}  loss {sums / counted:.4f}  {rate:.0f} images/s")
            started, sums, counted = time.monotonic(), 0.0, 0
        if progress.step % config.checkpoint_every == 0 or last:
            save_state(state, encoder, {}, optimiser, progress)
    metrics = verification(encoder, config, faces)
    report("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    path = folder / "tokenface-identity.safetensors"
    facts = {"steps": progress.step, "pictures": progress.images, "seed": config.seed, "metrics": metrics}
    save_small_encoder(path, encoder, {"licence": "Apache-2.0", "training": facts})
    return path


class AlignedPeople:
    """Aligned pictures of synthetic people; the same seed gives the same people."""

    def __init__(self, config: IdentityTrainConfig):
        self.config = config
        self.generator = SyntheticFaces(load_head(config.head), config.render_size)

    def sample(self, people: int, pictures: int, seed: int) -> tuple[Tensor, Tensor]:
        """[people · pictures, 3, S, S] in [0, 1] and [people · pictures] labels."""
        batch = self.generator.sample(people * pictures, seed, images_per_identity=pictures)
        image = colour_jitter(batch.image, torch.Generator().manual_seed(seed), strength=self.config.colour)
        return aligned_faces(image, batch.landmarks68, self.config.encoder.size), batch.identity


def _step(
    config: IdentityTrainConfig,
    faces: AlignedPeople,
    encoder: SmallEncoder,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
) -> float:
    encoder.train()
    image, identity = faces.sample(config.people, config.pictures, config.seed * 1_000_003 + progress.step)
    loss = contrastive_loss(encoder(image * 2 - 1), identity, config.margin, config.temperature)
    for group in optimiser.param_groups:
        group["lr"] = _learning_rate(config, progress.step)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    optimiser.step()
    progress.step += 1
    progress.images += len(image)
    return float(loss.detach())


def _learning_rate(config: IdentityTrainConfig, step: int) -> float:
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    whole = config.schedule_steps or config.steps
    done = (step - config.warmup_steps) / max(1, whole - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def verification(encoder: SmallEncoder, config: IdentityTrainConfig, faces: AlignedPeople) -> dict[str, float]:
    """On held-out people, two pictures each: rate of nearest neighbours that are the same person, and the area under
    the curve of same against different pairs."""
    encoder.eval()
    image, identity = faces.sample(config.held_out_people, 2, HELD_OUT_SEED)
    features = torch.nn.functional.normalize(torch.cat([encoder(part * 2 - 1) for part in image.split(32)]), dim=-1)
    cosine = features @ features.T
    same = identity[:, None] == identity[None, :]
    own = torch.eye(len(identity), dtype=torch.bool)
    nearest = cosine.masked_fill(own, -2).argmax(1)
    positive, negative = cosine[same & ~own], cosine[~same]
    return {
        "rank1": float((identity[nearest] == identity).float().mean()),
        "auc": float((positive[:, None] > negative[None, :]).float().mean()),
    }


if __name__ == "__main__":
    arguments = sys.argv[1:]
    given = arguments.pop(0) if arguments and "=" not in arguments[0] else None
    print(train_identity(given, arguments))
