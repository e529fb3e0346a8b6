"""Where a step's faces come from: fresh renders through a replay ring, and real photos. All from (seed, step)."""

from __future__ import annotations

from pathlib import Path

import torch

from tokenface.data.augment import colour_jitter, turn_and_zoom
from tokenface.data.photos import PhotoBatch, PhotoSampler
from tokenface.data.readers.landmark_tar import read_landmark_tar
from tokenface.data.record import PhotoRecord, split_by_identity
from tokenface.data.replay import LabelledFaces, ReplayRing
from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.model import HeadModel
from tokenface.training.config import PhotoConfig, SyntheticConfig, TrainConfig
from tokenface.training.state import Progress


def photo_records(config: PhotoConfig) -> tuple[list[PhotoRecord], list[PhotoRecord]]:
    """(training, held-out) photos of the configured tar; two empty lists without one."""
    if config.tar is None:
        return [], []
    records = list(read_landmark_tar(config.tar, config.shift))
    return split_by_identity(records, config.held_out_people, config.split_seed)


class SyntheticStream:
    """Renders blocks of faces when they are due and draws batches from the newest ones."""

    def __init__(self, head: HeadModel, config: SyntheticConfig, size: int, folder: Path, guard_steps: int):
        self.config = config
        self.faces = SyntheticFaces(head, size)
        guard = guard_steps * config.fresh_per_step + 2 * config.block
        self.ring = ReplayRing(folder, max(config.ring, guard + config.warm_start), size, head.sizes, guard)

    def draw(self, progress: Progress, batch: int) -> LabelledFaces:
        due = self.config.warm_start + progress.step * self.config.fresh_per_step
        while progress.rendered < due:
            block = self.faces.sample(self.config.block, seed=_mix(self.config.seed, progress.rendered))
            self.ring.write(progress.rendered, LabelledFaces(block.image, block.landmarks68, block.parameters))
            progress.rendered += self.config.block
        seed = _mix(self.config.seed + 1, progress.step)
        faces = self.ring.draw(progress.rendered, batch, seed)
        generator = torch.Generator().manual_seed(seed)
        p = faces.parameters
        image, camera, light, landmarks = turn_and_zoom(faces.image, p.camera, p.light, faces.landmarks68, generator)
        image = colour_jitter(image, generator, strength=0.6)
        return LabelledFaces(image, landmarks, p.replace(camera=camera, light=light))


class Batches:
    """The mixed batch of every step."""

    def __init__(self, config: TrainConfig, head: HeadModel, photos: list[PhotoRecord], folder: Path):
        self.seed = config.run.seed
        size = config.network.image_size
        self.photo_count = round(config.run.batch * config.photos.share) if photos else 0
        self.synthetic_count = config.run.batch - self.photo_count
        self.photos = PhotoSampler(photos, size) if self.photo_count else None
        self.synthetic = SyntheticStream(head, config.synthetic, size, folder, 2 * config.run.checkpoint_every)

    def draw(self, progress: Progress) -> tuple[LabelledFaces, PhotoBatch | None]:
        synthetic = self.synthetic.draw(progress, self.synthetic_count)
        if self.photos is None:
            return synthetic, None
        seed = _mix(self.seed + 2, progress.step)
        photos = self.photos.sample(self.photo_count, seed)
        image = colour_jitter(photos.image, torch.Generator().manual_seed(seed))
        return synthetic, PhotoBatch(image, photos.landmarks68)


def _mix(seed: int, index: int) -> int:
    """One 62-bit seed from two numbers (a fixed odd multiplier spreads neighbouring indices)."""
    return (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 62)
