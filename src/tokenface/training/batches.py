"""Batches of a step: rendered faces through a replay ring, landmark photos, records from shards.

Every batch is a pure function of (seed, step). With several processes or accumulated passes each takes its rows of the
very batch that one process would take whole, so that their number changes nothing but the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tokenface.data.augment import Mirror, Part, colour_jitter, turn_and_zoom
from tokenface.data.photos import PhotoBatch, PhotoSampler
from tokenface.data.record import PhotoRecord
from tokenface.data.replay import LabelledFaces, ReplayRing
from tokenface.data.shards.batch import CropOptions, RecordBatch
from tokenface.data.shards.index import ShardIndex
from tokenface.data.shards.loader import Selection, ShardRecords, record_loader
from tokenface.data.shards.order import BatchOrder, Draw, OrderConfig
from tokenface.data.synthetic import GENERATOR_VERSION, SyntheticFaces
from tokenface.errors import ConfigError, DataError
from tokenface.head.model import HeadModel
from tokenface.training.config import DataConfig, SyntheticConfig, TrainConfig
from tokenface.training.state import Progress

KINDS = {"synthetic": "rendered faces", "landmark_photos": "photos", "scans": "scans", "photos_2d": "2-D photos"}
"""Parts of a batch, as messages name them."""


@dataclass(frozen=True)
class ProcessLayout:
    """Place of this process in a distributed run: rank of `world_size`, `passes` per step each.

    local_rank, local_world_size: the same on this machine.  barrier: waits for all processes."""

    rank: int = 0
    world_size: int = 1
    passes: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    barrier: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        return self.world_size * self.passes

    def parts(self, total: int) -> list[Part]:
        """The rows of this process's passes in a batch of `total`."""
        size, first = total // self.count, self.rank * self.passes
        return [Part(i * size, (i + 1) * size, total) for i in range(first, first + self.passes)]


@dataclass(frozen=True)
class StepBatch:
    """Batch of one pass of the network; a part may be missing. Pictures go through the network in this order."""

    synthetic: LabelledFaces | None = None
    landmark_photos: PhotoBatch | None = None
    scans: RecordBatch | None = None
    photos_2d: RecordBatch | None = None

    def images(self) -> Tensor:
        """[B, 3, S, S] of all parts."""
        parts = (self.synthetic, self.landmark_photos, self.scans, self.photos_2d)
        images = [part.image for part in parts if part is not None]
        return images[0] if len(images) == 1 else torch.cat(images)

    def to(self, device: torch.device) -> StepBatch:
        """On the device of training; the CPU does not wait for the copies."""
        s, p, scans, pictures = self.synthetic, self.landmark_photos, self.scans, self.photos_2d
        return StepBatch(
            None if s is None else s.to(device, non_blocking=True),
            None if p is None else p.to(device, non_blocking=True),
            None if scans is None else scans.to(device, non_blocking=True),
            None if pictures is None else pictures.to(device, non_blocking=True),
        )


class SyntheticStream:
    """Renders blocks of faces when they are due and draws batches from the newest ones.

    The processes of one machine share its ring and the rendering: block number n falls to process n of them, cyclic.
    """

    def __init__(
        self,
        head: HeadModel,
        config: SyntheticConfig,
        size: int,
        folder: Path,
        guard_steps: int,
        layout: ProcessLayout,
    ):
        self.config, self.layout = config, layout
        self.faces, self.mirror = SyntheticFaces(head, size), Mirror(head)
        self.head_number = int(head.data.geometry_hash()[:12], 16)
        self.device = head.template.device
        guard = guard_steps * config.fresh_per_step + 2 * config.block
        self.capacity = max(config.ring, guard + config.warm_start)
        if layout.local_rank == 0:
            ReplayRing(folder, self.capacity, size, head.sizes, guard)  # makes the files
        layout.barrier()
        self.ring = ReplayRing(folder, self.capacity, size, head.sizes, guard)

    def draw(self, step: int, rendered: int, batch: int) -> tuple[list[LabelledFaces], int]:
        """The rows of this process, pass by pass, and how many faces are rendered now."""
        rendered = self._render(self.config.warm_start + step * self.config.fresh_per_step, rendered)
        seed = mixed(self.config.seed + 1, step)
        return [self._changed(rendered, part, seed) for part in self.layout.parts(batch)], rendered

    def plain(self, rendered: int, batch: int, seeds: list[int]) -> tuple[list[LabelledFaces], int]:
        """Batches of faces as they were rendered, and how many are rendered now."""
        rendered = self._render(self.config.warm_start, rendered)
        return [self.ring.draw(rendered, batch, seed) for seed in seeds], rendered

    def whole(self, step: int, rendered: int, batch: int, seed: int) -> tuple[LabelledFaces, int]:
        """As `draw`, all rows of a batch of another seed, from the faces of the warm start."""
        rendered = self._render(self.config.warm_start, rendered)
        return self._changed(rendered, Part(0, batch, batch), mixed(seed, step)), rendered

    def _render(self, due: int, rendered: int) -> int:
        before, block = rendered, self.config.block
        while rendered < due:
            if (rendered // block) % self.layout.local_world_size == self.layout.local_rank:
                self._fill(rendered)
            rendered += block
        if rendered > before:
            self.layout.barrier()
        return rendered

    def _fill(self, first: int) -> None:
        """One block of faces, unless an earlier run left it in this ring."""
        seed = mixed(self.config.seed + (GENERATOR_VERSION << 32), first)
        stamp = mixed(seed, self.head_number)  # a ring may be shared by runs on different heads
        if not self.ring.holds(first, self.config.block, stamp):
            faces = self.faces.sample(self.config.block, seed=seed)
            self.ring.write(first, LabelledFaces(faces.image, faces.landmarks68, faces.parameters), stamp)

    def _changed(self, rendered: int, part: Part, seed: int) -> LabelledFaces:
        """What a step sees of the ring, on the head's device: a GPU turns and colours a batch in no time."""
        faces = self.ring.draw(rendered, part.total, seed, slice(part.start, part.stop), self.device)
        generator = torch.Generator(self.device).manual_seed(seed)
        p = faces.parameters
        image, camera, light, landmarks = turn_and_zoom(
            faces.image, p.camera, p.light, faces.landmarks68, generator, part=part
        )
        mirrored = torch.rand(part.total, generator=generator, device=self.device)[part.start : part.stop] < 0.5
        image, landmarks, p = self.mirror.rows(mirrored, image, landmarks, p.replace(camera=camera, light=light))
        return LabelledFaces(colour_jitter(image, generator, strength=0.3, part=part), landmarks, p)


class RecordStream:
    """Batches of records of some kinds from shards."""

    def __init__(
        self, shards: list[ShardIndex], config: DataConfig, selection: Selection, options: CropOptions, batch: int,
        layout: ProcessLayout,
    ):  # fmt: skip
        self.records = ShardRecords(shards, options, selection)
        self.layout, self.batch, self.workers = layout, batch, config.workers
        self.defects: dict[str, str] = {}
        sizes = [len(shard.entries) for shard in self.records.shards]
        order = OrderConfig(batch=batch, pictures_per_person=config.pictures_per_person, seed=config.seed)
        try:
            self.order = BatchOrder(self.records.identities, sizes, order)
        except ValueError as error:
            raise DataError(f"{', '.join(selection.kinds)}: {error}; prepare more or make the batch smaller") from error
        self._next: tuple[int, Iterator[RecordBatch]] | None = None

    def draw(self, step: int) -> list[RecordBatch]:
        """The rows of this process, pass by pass."""
        if self._next is None or self._next[0] != step:
            self._next = (step, iter(self._loader(step)))
        passes = [next(self._next[1]) for _ in range(self.layout.passes)]
        self._next = (step + 1, self._next[1])
        for batch in passes:
            self.defects.update(batch.defects)
        return passes

    def _loader(self, step: int) -> DataLoader:
        return record_loader(self.records, _Rows(self.order, step, self.layout.parts(self.batch)), self.workers)


class _Rows:
    """This process's rows of every batch from a step on."""

    def __init__(self, order: BatchOrder, first_step: int, parts: list[Part]):
        self.order, self.first_step, self.parts = order, first_step, parts

    def __iter__(self) -> Iterator[list[Draw]]:
        for draws in self.order.from_step(self.first_step):
            for part in self.parts:
                yield draws[part.start : part.stop]


class Counts(NamedTuple):
    """Images of each kind in the batch of one step, all processes together.

    landmark_photos: with 68 points alone.  scans, photos_2d: records, for the paper's 3-D and 2-D losses."""

    synthetic: int
    landmark_photos: int
    scans: int
    photos_2d: int

    @staticmethod
    def of(config: TrainConfig, has_photos: bool, has_records: bool) -> Counts:
        batch = config.run.batch
        records = round(batch * config.data.share) if has_records else 0
        scan_share = {"3d": 1.0, "2d": 0.0}.get(config.paper.mode, config.data.scan_share)
        scans = round(records * scan_share)
        photos = min(round(batch * config.photos.share), batch - records) if has_photos else 0
        return Counts(batch - records - photos, photos, scans, records - scans)

    def check(self, layout: ProcessLayout, pictures_per_person: int) -> None:
        """Raises ConfigError: a kind cannot be shared equally."""
        for name, count in self._asdict().items():
            unit = layout.count * (pictures_per_person if name in ("scans", "photos_2d") else 1)
            if count % unit:
                raise ConfigError(
                    f"the {count} {KINDS[name]} of each batch cannot be shared equally: {layout.world_size} "
                    f"processes × {layout.passes} passes need a multiple of {unit}; change run.batch, the shares or "
                    "data.pictures_per_person"
                )


class Batches:
    """The mixed batch of every step."""

    def __init__(
        self,
        config: TrainConfig,
        head: HeadModel,
        photos: list[PhotoRecord],
        folder: Path,
        shards: list[ShardIndex] | None = None,
        held_out: frozenset[str] = frozenset(),
        layout: ProcessLayout | None = None,
    ):
        self.seed, self.layout = config.run.seed, layout or ProcessLayout()
        size = config.network.image_size
        self.picture_shape: tuple[int, ...] = (3, size, size)
        self.counts = Counts.of(config, bool(photos), bool(shards))
        self.counts.check(self.layout, config.data.pictures_per_person)
        self.photos = PhotoSampler(photos, size) if self.counts.landmark_photos and not config.teaching.every else None
        self.synthetic: SyntheticStream | None = None
        if self.counts.synthetic:
            guard_steps = 2 * config.run.checkpoint_every + config.run.ahead
            ring = folder if config.synthetic.folder is None else Path(config.synthetic.folder)
            self.synthetic = SyntheticStream(head, config.synthetic, size, ring, guard_steps, self.layout)
        options = CropOptions(size=size, mirror_vertices=head.data.mirror)
        self.records: dict[str, RecordStream] = {}
        for name, kinds in (("scans", ("scan", "synthetic")), ("photos_2d", ("photo", "clip"))):
            if count := getattr(self.counts, name):
                selection = Selection(kinds, config.data.datasets, held_out)
                if not any(selection.takes(entry) for shard in shards or [] for entry in shard.entries):
                    raise DataError(
                        f"the shards hold no {KINDS[name]} to train on; prepare a data set that has them, or train "
                        f"without: paper.mode={'2d' if name == 'scans' else '3d'}"
                    )
                self.records[name] = RecordStream(shards or [], config.data, selection, options, count, self.layout)

    def draw(self, step: int, rendered: int) -> tuple[list[StepBatch], int]:
        """The batch of a step, pass by pass, for this process.

        Args:
            rendered: faces in the ring before the step.
        Returns:
            one StepBatch per pass, its rendered faces on the head's device, and how many faces are in the ring now.
        """
        passes = range(self.layout.passes)
        synthetic: list[LabelledFaces] | list[None] = [None for _ in passes]
        if self.synthetic is not None:
            synthetic, rendered = self.synthetic.draw(step, rendered, self.counts.synthetic)
        parts = self.layout.parts(self.counts.landmark_photos)
        photos = [self.photo_batch(self.photo_seed(step), part) for part in parts]
        records = {name: stream.draw(step) for name, stream in self.records.items()}
        return [
            StepBatch(synthetic[i], photos[i], **{name: batches[i] for name, batches in records.items()})
            for i in passes
        ], rendered

    def pseudo_label_renders(self, rendered: int, batch: int, seeds: list[int]) -> tuple[list[LabelledFaces], int]:
        """Batches of rendered faces as they are, to try a network on, and how many faces are in the ring now."""
        if self.synthetic is None:
            raise ConfigError("self-training needs rendered faces beside the photos; make photos.share smaller")
        return self.synthetic.plain(rendered, batch, seeds)

    def ahead(self, progress: Progress) -> Iterator[tuple[list[StepBatch], int]]:
        """Endless batches of `draw`, from the progress on."""
        step, rendered = progress.step, progress.rendered
        while True:
            batches, rendered = self.draw(step, rendered)
            yield batches, rendered
            step += 1

    def epoch_steps(self) -> int:
        """Steps in which the records are seen once; 0 without records."""
        return max((stream.order.batches_in(0) for stream in self.records.values()), default=0)

    def defects(self) -> dict[str, str]:
        """Damaged records that this process met, and why."""
        return {where: why for stream in self.records.values() for where, why in stream.defects.items()}

    def photo_seed(self, step: int) -> int:
        """Of the photos of a step."""
        return mixed(self.seed + 2, step)

    def photo_batch(self, seed: int, part: Part) -> PhotoBatch | None:
        """Photos of a seed, cut and coloured; None without photos or with self-training, which makes its own."""
        if self.photos is None:
            return None
        photos = self.photos.sample(part.total, seed, slice(part.start, part.stop))
        image = colour_jitter(photos.image, torch.Generator().manual_seed(seed), part=part)
        return PhotoBatch(image, photos.landmarks68)


def mixed(seed: int, index: int) -> int:
    """One 62-bit seed from two numbers (a fixed odd multiplier spreads neighbouring indices)."""
    return (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 62)
