"""`tokenface train-likeness`: renders people, compares the network's answers with them, solves for the correction.

Nothing is descended: the best linear map has a closed form, so a run is as long as its rendering, and twice as many
faces never hurt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.configuration import read_config
from tokenface.data.mirror import Mirror
from tokenface.data.record import PhotoRecord
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import ConfigError, TokenFaceError
from tokenface.evaluation.photo_set import evaluation_crops
from tokenface.formats.files import make_folder
from tokenface.head.model import HeadModel
from tokenface.likeness.correction import likeness_path, read_likeness, save_likeness
from tokenface.likeness.descriptor import Describer
from tokenface.likeness.front import FrontView
from tokenface.likeness.regression import Sums
from tokenface.network.checkpoint import load_checkpoint
from tokenface.network.components import FaceParameters
from tokenface.prepare.pool import OrderedPool
from tokenface.training.batches import photo_records
from tokenface.training.config import PhotoConfig
from tokenface.training.provenance import code_version
from tokenface.training.supervision import mode_importance
from tokenface.weights import file_hash, find_weights

Sent = tuple[np.ndarray, np.ndarray]
BLOCK = 64
"""Faces that are rendered, answered and added together."""
SAVE_EVERY = 16
"""Blocks after which the sums go to disk."""
PHOTOS = 400
"""Photos that the mean one is taken of."""
HELD_OUT_SEED = 661_000_000
"""Blocks of people by whom the ridge is chosen are numbered from here on."""


@dataclass(frozen=True)
class LikenessConfig:
    """One correction. weights: image weights by name or path; None: the default.  output: None: beside them."""

    weights: str | None = None
    output: str | None = None
    folder: str = "runs/likeness"
    faces: int = 40_000
    held_out: int = 1024
    ridges: tuple[float, ...] = (2e3, 5e3, 1e4, 2e4)
    trust: float = 0.7  # share of the correction that is applied; what holds of renderings holds less of photos
    photos: PhotoConfig = field(default_factory=PhotoConfig)  # whose people shall on average stay as they are
    seed: int = 880_000_000
    threads: int = 0
    processes: int = 1  # that render and answer, each with one thread; the sums are the same

    def __post_init__(self) -> None:
        if not 0 < self.trust <= 1:
            raise ConfigError(f"trust is above 0 and at most 1, got {self.trust}")
        if self.faces < BLOCK or self.held_out < BLOCK or not self.ridges or min(self.ridges) <= 0:
            raise ConfigError(f"a likeness needs faces ≥ {BLOCK}, held_out ≥ {BLOCK} and ridges above 0")
        if self.processes < 1:
            raise ConfigError(f"at least one process, got {self.processes}")


@dataclass(frozen=True)
class Block:
    """descriptors: [N, D].  errors: [N, S], true shape − answered shape."""

    descriptors: Tensor
    errors: Tensor


class Observer:
    """What the regression learns from: faces of known shape, their answers, and both in the mirror."""

    def __init__(self, network: nn.Module, head: HeadModel, size: int):
        self.network, self.faces = network, SyntheticFaces(head, size)
        self.front, self.mirror = FrontView(head), Mirror(head)
        self.describe = Describer(self.front)

    def block(self, seed: int) -> Block:
        faces = self.faces.sample(BLOCK, seed)
        return self.seen(faces.image, faces.parameters)

    @torch.inference_mode()
    def seen(self, images: Tensor, truth: FaceParameters) -> Block:
        """[B, 3, S, S] → 2 · B rows, the mirrored ones last."""
        answer = self.network(images)
        errors = truth.shape - answer.shape
        return Block(self._both(images, answer), torch.cat([errors, errors * self.mirror.shape]))

    @torch.inference_mode()
    def mean(self, records: list[PhotoRecord], size: int) -> Tensor:
        """[D] mean descriptor of photos and their mirror images, cropped as in tests."""
        groups = [records[i : i + BLOCK] for i in range(0, len(records), BLOCK)]
        crops = [evaluation_crops(group, size)[0] for group in groups]
        return torch.cat([self._both(images, self.network(images)) for images in crops]).mean(0)

    def _both(self, images: Tensor, answer: FaceParameters) -> Tensor:
        """[2 · B, D] descriptors of the pictures, then of their mirror images."""
        pairs = ((images, answer), (self.mirror.images(images), self.mirror.parameters(answer)))
        return torch.cat([self.describe(self.front(picture, faces), faces) for picture, faces in pairs])


def train_likeness(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], object] = print
) -> Path:
    """Render, answer, solve, choose the ridge. A killed run goes on; with more faces, a finished one, too.

    Photos look unlike renderings in ways that all of them share, and a map learned from renderings takes that for a
    trait of everybody. With `photos.tar` the map is the best of those that leave the mean photo as it is answered.

    Returns:
        The file that was written.
    Raises:
        ConfigError, CheckpointError, OutputError: each says what to do.
    """
    config = read_config(LikenessConfig, config_path, overrides)
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = find_weights(config.weights)
    network, head, _ = load_checkpoint(weights)
    if head.data.mirror is None:
        raise ConfigError(f"the head model '{head.name}' does not say which vertices are each other's mirror images")
    known = file_hash(weights)
    observer = Observer(network, head, network.config.image_size)
    sums = _sums(
        observer, weights, config, make_folder(config.folder) / f"sums_{known}_{config.seed}.safetensors", report
    )
    held_out = [observer.block(HELD_OUT_SEED + number) for number in range(config.held_out // BLOCK)]
    photos = _some(photo_records(config.photos)[0])
    still = observer.mean(photos, network.config.image_size) if photos else None
    maps = {ridge: sums.solve(ridge, still).times(config.trust) for ridge in config.ridges}
    rows = {ridge: unexplained(held_out, linear, head) for ridge, linear in maps.items()}
    for ridge, (before, after) in rows.items():
        report(f"ridge {ridge:g}: unexplained share of the error {after / before:.4f}")
    best = min(rows, key=lambda ridge: rows[ridge][1])
    left = rows[best][1] / rows[best][0]
    facts = {
        "weights": known,
        "licence": "Apache-2.0",
        "training": {
            "faces": sums.rows // 2,
            "photos": len(photos),
            "seed": config.seed,
            "ridge": best,
            "trust": config.trust,
            "code": code_version(),
        },
        "metrics": {
            "held out": config.held_out,
            "left of the answers' squared shape error": left,
        },
    }
    path = Path(config.output) if config.output else likeness_path(weights)
    save_likeness(path, maps[best], facts)
    read_likeness(path, head)
    return path


def _some(photos: list[PhotoRecord]) -> list[PhotoRecord]:
    """At most `PHOTOS`, the same ones for the same tar."""
    chosen = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0))[:PHOTOS]
    return [photos[i] for i in sorted(chosen.tolist())]


def unexplained(blocks: list[Block], linear: Callable[[Tensor], Tensor], head: HeadModel) -> tuple[float, float]:
    """Mean squared error of the face's vertices (Eq. 3's weights, metres²) of answers, and of corrected answers; the
    mirrored half of each block left out."""
    importance = mode_importance(head)
    before, after = 0.0, 0.0
    for block in blocks:
        half = len(block.errors) // 2
        errors = block.errors[:half]
        before += float((errors * importance).square().sum(-1).mean())
        after += float(((errors - linear(block.descriptors[:half])) * importance).square().sum(-1).mean())
    return before / len(blocks), after / len(blocks)


def _sums(
    observer: Observer, weights: Path, config: LikenessConfig, path: Path, report: Callable[[str], object]
) -> Sums:
    """Over the configured number of faces, from where the file stands."""
    blocks = -(-config.faces // BLOCK)
    if path.is_file():
        sums = Sums.load(path)
        report(f"goes on behind {sums.rows // 2} faces")
    else:
        first = observer.block(config.seed)  # to take means and scales from; its turn comes below
        sums = Sums.start(first.descriptors, observer.describe.view_length, first.errors.shape[1])
    start = sums.rows // (2 * BLOCK)
    for number, block in enumerate(_blocks(observer, weights, config, range(start, blocks)), start):
        sums.add(block.descriptors, block.errors)
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == blocks:
            sums.save(path)
            report(f"{(number + 1) * BLOCK} of {blocks * BLOCK} faces")
    return sums


def _blocks(observer: Observer, weights: Path, config: LikenessConfig, numbers: range) -> Iterator[Block]:
    """In order, by this process or by several."""
    if config.processes == 1:
        yield from (observer.block(config.seed + number) for number in numbers)
        return
    pool: OrderedPool[int, Sent] = OrderedPool(partial(_sender, weights), config.processes, _crashed)
    try:
        for descriptors, errors in pool.map(config.seed + number for number in numbers):
            yield Block(torch.from_numpy(descriptors), torch.from_numpy(errors))
    finally:
        pool.close()


def _sender(weights: Path) -> Callable[[int], Sent]:
    """In a process of its own: the seed of a block → its arrays."""
    network, head, _ = load_checkpoint(weights)
    observer = Observer(network, head, network.config.image_size)

    def send(seed: int) -> Sent:
        block = observer.block(seed)
        return block.descriptors.numpy(), block.errors.numpy()

    return send


def _crashed(seed: int) -> Sent:
    raise TokenFaceError(f"a process died over the faces of seed {seed}; with fewer processes there is more memory")
