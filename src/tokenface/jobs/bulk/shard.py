"""Bulk shard: a few hundred photos to one table, idempotent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tokenface.core.arrays import open_arrays
from tokenface.core.fingerprint import Facts, fingerprint
from tokenface.deploy.graph_names import arithmetic
from tokenface.images.loading import MAX_PIXELS
from tokenface.images.places import Picture, Place
from tokenface.inference.photos import BATCH_SIZE
from tokenface.inference.refinement import RefineOptions
from tokenface.jobs.bulk.table import METADATA, columns, encode, metadata
from tokenface.model import Reconstructor

COUNTS = ("done", "faces", "without_face", "failed")
"""Of `ShardReport`; a table remembers them, so that a run that finds it there can report them."""
FAILURES_SHOWN = 20
"""Failures that travel back from one shard; its table has them all."""


@dataclass(frozen=True)
class BulkOptions:
    """Settings of a bulk run. form: "parquet" or "npz".  per_shard: photos in one table."""

    form: str = "parquet"
    per_shard: int = 256
    weights: str | None = None
    batch_size: int = BATCH_SIZE
    device: str = "auto"
    runtime: str = "auto"
    precision: str = "fp32"
    max_faces: int | None = None
    second_crop: bool = True
    refine: RefineOptions | None = None
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False

    def signature(self, model: Facts) -> str:
        """Dependencies of the tables besides the photos. model: facts of the weights (`model_facts`)."""
        device = "cpu" if self.device == "auto" else self.device
        runtime = arithmetic(self.runtime, self.precision)
        options = replace(self, weights=None, device=device, runtime=runtime, overwrite=False)
        return fingerprint({**model, "options": options})


@dataclass(frozen=True)
class Shard:
    """Photos that become one table."""

    number: int
    pictures: tuple[Picture, ...]

    def name(self, form: str) -> str:
        return f"faces-{self.number:06d}.{form}"

    def signature(self, settings: str) -> str:
        """Changes when the table would come out differently: settings, and names, sizes and times of the photos."""
        digest = hashlib.sha256(settings.encode())
        for picture in self.pictures:
            digest.update(f"\n{picture.name}\t{picture.size}\t{picture.modified}".encode(errors="surrogateescape"))
        return digest.hexdigest()[:32]


@dataclass
class ShardReport:
    """Outcome of a shard. skipped: the table was there, and says so itself.  failures: the first
    (photo, reason)."""

    number: int
    photos: int = 0
    done: int = 0
    faces: int = 0
    without_face: int = 0
    failed: int = 0
    skipped: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)


class ShardWorker:
    """Makes shards; one per process, the network is loaded for the first shard that is not there yet.

    A shard that is finished is left alone: a worker that died, or a cluster that asks twice, costs no photo.
    """

    def __init__(self, source: Place, output: Place, options: BulkOptions, model: Facts):
        self.source, self.output, self.options = source, output, options
        self.settings = options.signature(model)

    @cached_property
    def model(self) -> Reconstructor:
        options = self.options
        return Reconstructor.load(options.weights, options.device, options.runtime, options.precision)

    def __call__(self, shard: Shard) -> ShardReport:
        name, signature = shard.name(self.options.form), shard.signature(self.settings)
        report = ShardReport(shard.number, len(shard.pictures))
        if (counts := self._finished(name, signature)) is not None:
            report.skipped = True
            for count in COUNTS:
                setattr(report, count, counts[count])
            return report
        results = []
        for result in self.model.iterate(
            [self.source.item(picture) for picture in shard.pictures],
            batch_size=self.options.batch_size,
            max_faces=self.options.max_faces,
            second_crop=self.options.second_crop,
            refine=False if self.options.refine is None else self.options.refine,
            max_pixels=self.options.max_pixels,
        ):
            result.image = None  # hundreds of photos have no room together
            results.append(result)
            report.done += result.status == "done"
            report.faces += len(result.faces)
            report.without_face += result.status == "no_face"
            report.failed += result.status == "failed"
            if result.status == "failed" and len(report.failures) < FAILURES_SHOWN:
                report.failures.append((result.item.name, str(result.error)))
        model = self.model
        table = columns(results, model.head)
        arkit = next((face.arkit for result in results for face in result.faces), None)
        facts = metadata(model.head, model.origin, list(arkit or ()), signature)
        facts["counts"] = {name: getattr(report, name) for name in COUNTS}
        self.output.write(name, encode(table, facts, self.options.form))
        return report

    def _finished(self, name: str, signature: str) -> dict[str, int] | None:
        """The counts of the table, where there is one of this signature."""
        facts = {} if self.options.overwrite else stored_facts(self.output, name)
        return facts["counts"] if facts.get("signature") == signature else None


def stored_facts(place: Place, name: str) -> dict[str, Any]:
    """Metadata of a table that is there and readable; empty otherwise."""
    try:
        if name.endswith(".npz"):
            with open_arrays(place.read(name)) as file:
                facts = json.loads(str(file[METADATA]))
        else:
            from pyarrow import parquet

            with place.opened(name) as file:  # the last few kilobytes of it
                facts = json.loads((parquet.read_metadata(file).metadata or {})[METADATA.encode()])
    except (OSError, KeyError, ValueError, TypeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def divide(pictures: Sequence[Picture], per_shard: int) -> list[Shard]:
    """Photos in their order, so many to a shard."""
    starts = range(0, len(pictures), per_shard)
    return [Shard(number, tuple(pictures[i : i + per_shard])) for number, i in enumerate(starts)]
