"""Shard loader: decoding in workers, deterministic for any number of them, resumable at any step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from tokenface.core.pool import end_with_parent, process_context, single_threaded
from tokenface.data.held_out import Split
from tokenface.data.record import FaceRecord
from tokenface.data.shards.batch import CropOptions, Example, RecordBatch, collate, crop_record
from tokenface.data.shards.index import Entry, ShardIndex, find_shards
from tokenface.data.shards.members import decode_record
from tokenface.data.shards.order import BatchOrder, Draw, OrderConfig
from tokenface.errors import DataError

MAX_SUBSTITUTES = 32
"""Records tried in place of a damaged one; more in a row than this are no accident."""


@dataclass(frozen=True)
class Selection:
    """Which records: kinds, data sets and people to leave out. Empty: all."""

    kinds: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    without_people: frozenset[str] = field(default_factory=frozenset)

    def takes(self, entry: Entry) -> bool:
        return (
            (not self.kinds or entry.kind in self.kinds)
            and (not self.datasets or entry.dataset in self.datasets)
            and entry.identity not in self.without_people
        )


class ShardRecords(Dataset):
    """Records by position, counted through the shards; holds the indices alone, so it is cheap to send to workers."""

    def __init__(
        self, shards: Sequence[ShardIndex], options: CropOptions | None = None, selection: Selection | None = None
    ):
        self.options, selection = options or CropOptions(), selection or Selection()
        self.shards = [
            replace(shard, entries=tuple(e for e in shard.entries if selection.takes(e)), rejected=(), failed=())
            for shard in shards
        ]
        self.shards = [shard for shard in self.shards if shard.entries]
        self._where = [(s, e) for s, shard in enumerate(self.shards) for e in range(len(shard.entries))]
        self._by_identity: dict[str, list[int]] = {}
        for position, (s, e) in enumerate(self._where):
            name = self.shards[s].entries[e].identity
            if name:
                self._by_identity.setdefault(name, []).append(position)

    def __len__(self) -> int:
        return len(self._where)

    def entry(self, position: int) -> Entry:
        shard, number = self._where[position]
        return self.shards[shard].entries[number]

    @property
    def identities(self) -> list[str]:
        return [self.entry(position).identity for position in range(len(self))]

    def record(self, position: int) -> FaceRecord:
        """The record itself, uncropped.

        Raises:
            DataError: damaged.
        """
        shard, number = self._where[position]
        entry = self.shards[shard].entries[number]
        return decode_record(entry.key, self.shards[shard].read(entry))

    def __getitem__(self, draw: Draw) -> Example:
        """A crop of the record, or of another one (of the same person, if there is one) when it is damaged.

        Raises:
            DataError: many records in a row are damaged.
        """
        defects: list[tuple[str, str]] = []
        for position in self._candidates(draw.position):
            try:
                example = crop_record(self.record(position), self.options, draw.seed, draw.batch_seed)
            except DataError as error:
                defects.append((self._label(position), str(error)))
                continue
            return replace(example, defects=tuple(defects))
        raise DataError(f"{len(defects)} records in a row are damaged, the first: {defects[0][1]}; check the shards")

    def _candidates(self, position: int) -> Iterator[int]:
        yield position
        own = self._by_identity.get(self.entry(position).identity, [])
        start = own.index(position) if own else 0
        same = [own[(start + step) % len(own)] for step in range(1, len(own))]
        others = [(position + step) % len(self) for step in range(1, MAX_SUBSTITUTES)]
        yield from (same + [p for p in others if p not in same])[:MAX_SUBSTITUTES]

    def _label(self, position: int) -> str:
        shard, number = self._where[position]
        return f"{self.shards[shard].path.name}:{self.shards[shard].entries[number].key}"


class ShardLoader:
    """Endless batches.

    Args:
        root: folder of shards, or the indices themselves.
        order: batch size, people, seed.  options: of the crops.  selection: which records.
        workers: processes that decode; 0: in this one. The batches do not depend on it.
        rank, world: this process among those that train together.
    Raises:
        DataError: no shards, or too few records for one batch.
    """

    def __init__(
        self,
        root: str | Path | Sequence[ShardIndex],
        order: OrderConfig | None = None,
        options: CropOptions | None = None,
        selection: Selection | None = None,
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
    ):
        shards = find_shards(root) if isinstance(root, str | Path) else list(root)
        self.records = ShardRecords(shards, options, selection)
        sizes = [len(shard.entries) for shard in self.records.shards]
        try:
            self.order = BatchOrder(self.records.identities, sizes, order or OrderConfig(), rank, world)
        except ValueError as error:
            raise DataError(f"{error}; prepare more pictures or make the batch smaller") from error
        self.workers, self.prefetch = workers, prefetch
        self.defects: dict[str, str] = {}
        for shard in shards:
            self.defects |= {f"{shard.path.name}:{name}": reason for name, reason in shard.defects}

    def batches(self, first_step: int = 0) -> Iterator[RecordBatch]:
        """Batch number `first_step` and all that follow, epoch after epoch.

        A run that starts here gets exactly what an unbroken run would have got from this step on. Damaged records are
        replaced and collected in `defects`.
        """
        loader = record_loader(self.records, _From(self.order, first_step), self.workers, self.prefetch)
        for batch in loader:
            self.defects.update(batch.defects)
            yield batch

    def report(self) -> list[str]:
        """One line per damaged record that was met so far, and how many there were."""
        lines = [f"{where}: {reason}" for where, reason in sorted(self.defects.items())]
        return [f"{len(lines)} damaged records were left out", *lines] if lines else []


class _From:
    """A batch sampler that begins at a step."""

    def __init__(self, order: BatchOrder, first_step: int):
        self.order, self.first_step = order, first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        return self.order.from_step(self.first_step)


def record_loader(records: ShardRecords, batches: Iterable[list[Draw]], workers: int, prefetch: int = 2) -> DataLoader:
    """Decodes the records of the batches, ahead of time with `workers` processes, in their order."""
    if not workers:
        return DataLoader(records, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]
    return DataLoader(
        records,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=prefetch,
        worker_init_fn=_begin,
        multiprocessing_context=process_context(),
    )


def _begin(worker: int) -> None:
    single_threaded()
    end_with_parent()


def split_people(shards: Sequence[ShardIndex], split: Split) -> frozenset[str]:
    """Names of people to keep out of training.

    Raises:
        DataError: nobody would be left.
    """
    people = {entry.identity for shard in shards for entry in shard.entries if entry.identity}
    if not split.people:
        return frozenset()
    try:
        return split.held_out(people)
    except ValueError as error:
        raise DataError(f"{error}; set data.held_out_people lower") from error


def held_out_sets(shards: Sequence[ShardIndex], datasets: Collection[str]) -> tuple[list[ShardIndex], list[ShardIndex]]:
    """The shards without the records of some data sets, and these records alone; wherever they lie below one root."""

    def of(held: bool) -> list[ShardIndex]:
        parts = [
            replace(shard, entries=tuple(e for e in shard.entries if (e.dataset in datasets) == held))
            for shard in shards
        ]
        return [part for part in parts if part.entries]

    return of(False), of(True)
