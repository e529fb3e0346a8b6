"""Bulk run: photos in shards, by local processes or a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tokenface.core.cluster import RayPool
from tokenface.core.files import make_folder
from tokenface.core.pool import OrderedPool
from tokenface.errors import ConfigError
from tokenface.images.models import fetch_models
from tokenface.images.places import Picture, place_of
from tokenface.inference.checkpoint_facts import model_facts
from tokenface.jobs.bulk.shard import BulkOptions, Shard, ShardReport, ShardWorker, divide
from tokenface.jobs.bulk.table import FORMATS
from tokenface.weights import find_weights


@dataclass
class BulkReport:
    """Outcome of a bulk run. found_photos: in tables that were there before.  failures: the first (photo, reason)
    of each shard."""

    photos: int = 0
    done: int = 0
    faces: int = 0
    without_face: int = 0
    failed: int = 0
    shards: int = 0
    found_photos: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, shard: ShardReport) -> None:
        self.photos += shard.photos
        self.done += shard.done
        self.faces += shard.faces
        self.without_face += shard.without_face
        self.failed += shard.failed
        self.shards += 1
        self.found_photos += shard.photos if shard.skipped else 0
        self.failures += shard.failures


class BulkRun:
    """Iterate to do the work: yields a report per shard, in order.

    Args:
        source: folder or URL of photos.  output: folder or URL of the tables.
        workers: processes; None: 1, or with `ray` all CPUs of the cluster.
        ray: address of a Ray cluster, "auto", or "local" for one on this machine; None: no Ray.
        recursive: photos in folders below the source too.
    Raises:
        ConfigError: unknown format, a URL that cannot be opened.  ImageError: no photos.  CheckpointError: no such
            weights.  OutputError: no such folder.
    """

    def __init__(
        self,
        source: str | Path,
        output: str | Path,
        options: BulkOptions | None = None,
        workers: int | None = None,
        ray: str | None = None,
        recursive: bool = False,
    ):
        self.options, self.workers, self.ray = options or BulkOptions(), workers, ray
        if self.options.form not in FORMATS:
            raise ConfigError(f"unknown table format '{self.options.form}'; expected {' or '.join(FORMATS)}")
        self.source, self.output = place_of(source), place_of(output)
        if self.output.local:
            make_folder(self.output.address)
        self.weights = find_weights(self.options.weights)
        self.shards = divide(self._pictures(recursive), self.options.per_shard)
        self.total = sum(len(shard.pictures) for shard in self.shards)
        self.report = BulkReport()

    def _pictures(self, recursive: bool) -> list[Picture]:
        """All but those in the output folder, where that lies inside the source."""
        found = self.source.pictures(recursive)
        if not (self.source.local and self.output.local):
            return found
        folder, output = (Path(place.address).expanduser().resolve() for place in (self.source, self.output))
        if output == folder or not output.is_relative_to(folder):
            return found
        inside = f"{output.relative_to(folder).as_posix()}/"
        return [picture for picture in found if not picture.name.startswith(inside)]

    def __iter__(self) -> Iterator[ShardReport]:
        fetch_models(quiet=True)  # once, before several processes want them
        make = partial(ShardWorker, self.source, self.output, self.options, model_facts(self.weights))
        pool: OrderedPool[Shard, ShardReport] | RayPool[Shard, ShardReport]
        if self.ray is not None:
            pool = RayPool(make, self.workers, _crashed, self.ray, largest_block=1)
        else:
            pool = OrderedPool(make, self.workers or 1, _crashed)
        try:
            for report in pool.map(self.shards):
                self.report.add(report)
                yield report
        finally:
            pool.close()
        self._check_tables()
        self._remove_stale()

    def _check_tables(self) -> None:
        """Tables that somebody removed while the run went on are no success."""
        there = set(self.output.names())
        lost = [shard for shard in self.shards if shard.name(self.options.form) not in there]
        for shard in lost[: self.report.shards]:
            name = shard.name(self.options.form)
            if not any(first == shard.pictures[0].name for first, _ in self.report.failures):
                self.report.failed += len(shard.pictures)
                self.report.failures.append((name, "it was removed while the run went on; run the same command again"))

    def _remove_stale(self) -> None:
        """Tables of an earlier, larger run: whoever reads the folder would read them too."""
        for name in self.output.names():
            number = re.fullmatch(rf"faces-(\d{{6,}})\.{self.options.form}", name)
            if number is not None and int(number[1]) >= len(self.shards):
                self.output.remove(name)


def _crashed(shard: Shard) -> ShardReport:
    first, last = shard.pictures[0].name, shard.pictures[-1].name
    reason = f"a photo from '{first}' to '{last}' made the worker process crash; use smaller shards to find it"
    return ShardReport(shard.number, len(shard.pictures), failed=len(shard.pictures), failures=[(first, reason)])
