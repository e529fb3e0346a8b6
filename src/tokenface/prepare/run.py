"""Preparation run: all items of a data set to shards, resumable by shard, deterministic for any worker count."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from glob import escape
from itertools import chain
from pathlib import Path

from tokenface.core.cluster import RayPool
from tokenface.core.files import discard, make_folder, read_marker, write_atomically
from tokenface.core.fingerprint import Facts, fingerprint
from tokenface.core.pool import OrderedPool
from tokenface.data.readers.dataset import DatasetReader
from tokenface.data.readers.registry import find_dataset
from tokenface.data.readers.video import windows_of
from tokenface.data.record import Item
from tokenface.data.shards.index import ShardIndex, index_path, load_index
from tokenface.data.shards.writer import write_shard
from tokenface.errors import DataError, OutputError
from tokenface.images.models import fetch_models
from tokenface.prepare.item import ItemPreparer, Outcome
from tokenface.prepare.options import PrepareOptions

VERSION = 2
FAILURES_SHOWN = 1000
"""Failures kept in the index of one shard; more than this is a wrong folder, not bad luck."""


@dataclass
class Report:
    """Outcome of a preparation. failures: (source, reason).  rejections: reason → count."""

    done: int = 0
    rejections: Counter = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    shards: int = 0
    skipped_shards: int = 0

    @property
    def rejected(self) -> int:
        return sum(self.rejections.values())

    def add(self, shard: ShardIndex, skipped: bool) -> None:
        self.done += len(shard.entries)
        self.rejections.update(reason for _, reason in shard.rejected)
        self.failures += shard.failed
        self.people |= {entry.identity for entry in shard.entries if entry.identity}
        self.shards += 1
        self.skipped_shards += skipped


class Preparation:
    """Iterate to do the work: yields the number of items that are settled, as they are.

    Args:
        dataset: name of `DATASETS`.  source: folder (or tar) of the data set.  output: folder of the shards.
        workers: processes; None: 1, or with `ray` as many as its CPUs.
        limit: so many items at most, spread evenly over the data set (a sample to look at).
        clip_frames: videos become one record for every so many consecutive frames; None: one, of a few frames from
            the middle.
        ray: address of a Ray cluster whose processes do the work; None: this machine's own.
    Raises:
        DataError: unknown data set, or nothing of it in the folder.  OutputError: the output holds other shards.
    """

    def __init__(
        self,
        dataset: str,
        source: str | Path,
        output: str | Path,
        options: PrepareOptions | None = None,
        workers: int | None = None,
        limit: int | None = None,
        ray: str | None = None,
        clip_frames: int | None = None,
    ):
        self.options, self.output = options or PrepareOptions(), Path(output)
        self.workers, self.ray = workers, ray
        self.reader: DatasetReader = find_dataset(dataset)
        items = self.reader.items(source)
        if clip_frames is not None:
            items = [window for item in items for window in windows_of(item, clip_frames)]
        if limit is not None and limit < len(items):
            items = [items[i * len(items) // limit] for i in range(limit)]
        size = self.options.per_shard
        if size < 1:
            raise DataError(f"a shard holds at least one item, got per_shard={size}")
        if self.options.masks is not None:
            _check_masks(items)
        self.origin = {"source": _digest(source), "limit": limit}
        self._check_origin()
        self.parts = [items[i : i + size] for i in range(0, len(items), size)]
        self.total = len(items)
        self.report = Report()

    @property
    def _marker(self) -> Path:
        """Says what the shards were made of."""
        return self.output / f".{self.reader.name}.json"

    def _check_origin(self) -> None:
        """Shards of another source, or of another part of this one, would be overwritten and removed."""
        marker = read_marker(self._marker)
        if marker is None or marker == self.origin:
            return
        if marker.get("source") != self.origin["source"]:
            reason = f"the shards of another '{self.reader.name}' data set"
        else:
            reason = f"shards that were made with --limit {marker.get('limit') or 'none'}"
        raise OutputError(f"'{self.output}' holds {reason}; choose another folder with -o")

    def path(self, number: int) -> Path:
        return self.output / f"{self.reader.name}-{number:05d}.tar"

    def __iter__(self) -> Iterator[int]:
        common = {"version": VERSION, "reader": self.reader.name, **self.options.depends_on(self.reader.flame)}
        signatures = [signature(common, self.options, part) for part in self.parts]
        finished = [self._finished(number, wanted) for number, wanted in enumerate(signatures)]
        todo = [number for number, shard in enumerate(finished) if shard is None]
        if read_marker(self._marker) is None:
            make_folder(self.output)
            write_atomically(self._marker, json.dumps(self.origin).encode())
        for shard, part in zip(finished, self.parts, strict=True):
            if shard is not None:
                self.report.add(shard, skipped=True)
                yield len(part)
        if todo:
            yield from self._prepare(todo, signatures)
        self._remove_stale()

    def _prepare(self, todo: Sequence[int], signatures: Sequence[str]) -> Iterator[int]:
        fetch_models(quiet=True)  # once, before several processes want them
        pool = self._pool()
        outcomes = pool.map(chain.from_iterable(self.parts[number] for number in todo))
        try:
            for number in todo:
                yield from self._write(number, outcomes, signatures[number])
        finally:
            pool.close()

    def _pool(self) -> OrderedPool[Item, Outcome] | RayPool[Item, Outcome]:
        make = partial(ItemPreparer, self.reader, self.options)
        if self.ray is not None:
            return RayPool(make, self.workers, _crashed, self.ray)
        return OrderedPool(make, self.workers or 1, _crashed)

    def _write(self, number: int, outcomes: Iterator[Outcome], wanted: str) -> Iterator[int]:
        """One shard. The outcomes are gathered first: progress is reported between them."""
        records: list[tuple[str, dict[str, bytes]]] = []
        rejected: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for item in self.parts[number]:
            outcome = next(outcomes)
            assert outcome.item.key == item.key
            if outcome.members is not None:
                records.append((f"{self.reader.name}-{item.key}", outcome.members))
            else:
                (rejected if outcome.status == "rejected" else failed).append((item.source, outcome.reason))
            yield 1
        shard = write_shard(
            self.path(number), records, signature=wanted, rejected=rejected, failed=failed[:FAILURES_SHOWN]
        )
        self.report.add(shard, skipped=False)

    def _finished(self, number: int, wanted: str) -> ShardIndex | None:
        path = self.path(number)
        if not path.is_file() or not index_path(path).is_file():
            return None
        shard = load_index(path)
        return shard if shard.signature == wanted and not shard.defects else None

    def _remove_stale(self) -> None:
        """Shards of this data set beyond its present size, which an earlier, larger run left."""
        for path in self.output.glob(f"{self.reader.name}-[0-9][0-9][0-9][0-9][0-9].tar"):
            if int(path.stem[-5:]) >= len(self.parts):
                discard(index_path(path))
                discard(path)


def signature(common: Facts, options: PrepareOptions, items: Sequence[Item]) -> str:
    """Changes when a shard would come out differently.

    Args:
        common: what all shards depend on.  items: of this one; their files count by name, size and time, and so do the
            segmentations that are supplied for them.
    """
    rows = []
    for item in items:
        files = [*(item.on_disk() if not item.note else item.pictures[:1])]
        if options.masks is not None:
            files += _masks_of(item, Path(options.masks))
        rows.append([item.key, item.identity, item.neutral, item.note, *(_state(path) for path in files)])
    return fingerprint({**common, "items": rows})


def _check_masks(items: Sequence[Item]) -> None:
    """Raises DataError: two pictures would get one segmentation, which is known by the picture's name."""
    stems = Counter(item.pictures[0].stem for item in items)
    name, count = max(stems.items(), key=lambda pair: pair[1], default=("", 0))
    if count > 1:
        raise DataError(
            f"{count} pictures or pieces of clips would get the segmentation '{name}'; prepare them one folder at a "
            "time, or leave --masks out"
        )


def _digest(source: str | Path) -> str:
    """Which source it is; a path does not belong into shards."""
    return hashlib.sha256(str(Path(source).expanduser().resolve()).encode(errors="surrogateescape")).hexdigest()[:16]


def _masks_of(item: Item, folder: Path) -> list[Path]:
    """By the names that `supplied_mask` is asked for."""
    stem = item.pictures[0].stem
    return sorted(folder.glob(f"{escape(stem)}_[0-9]*.png")) if item.kind == "clip" else [folder / f"{stem}.png"]


def _state(path: Path) -> tuple[str, int, int]:
    try:
        facts = path.stat()
        return path.name, facts.st_size, facts.st_mtime_ns
    except OSError:
        return path.name, -1, -1


def _crashed(item: Item) -> Outcome:
    return Outcome(item, "failed", f"'{item.source}' made the worker process crash")
