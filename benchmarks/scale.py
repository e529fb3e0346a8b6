"""Bulk runs of 100 million photos: on paper from measured parts, and in small on this machine with tiny records.

python -m benchmarks.scale paper [--photos 100000000] [--per-shard 256]
python -m benchmarks.scale simulate [--records 1000000] [--per-shard 256] [--workers 2] [--ray local]

`simulate` maps tables of tiny records (their numbers and a checksum, no picture) through the pool of a real run. One
table in fifty takes forty times as long, and one worker is killed on the way. It says whether every record is in
exactly one table, what the driver's memory did, and how often a table was made.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import pickle
import signal
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from tokenface.core.files import write_atomically
from tokenface.core.pool import OrderedPool
from tokenface.head.registry import load_head
from tokenface.images.places import Picture
from tokenface.inference.confidence import CONFIDENCE_FIELDS
from tokenface.jobs.bulk.shard import Shard, divide
from tokenface.jobs.bulk.table import METADATA, WIDTHS, encode
from tokenface.parameters import COMPONENTS

LISTED = 1000
"""Objects in one answer of an object store's listing."""
SLOW_EVERY, SLOW_FACTOR = 50, 40


@dataclass(frozen=True)
class Parts:
    """Bytes. driver: of memory per photo, listed and divided.  manifest: per photo, pickled, as it travels to a worker.
    table: of a table.  footer: of its end, which says whether it is finished."""

    driver: float
    manifest: float
    table: int
    footer: int


def measured_parts(per_shard: int = 256, photos: int = 100_000) -> Parts:
    """From real objects: `photos` entries of a listing, a table of random faces of OpenHead."""
    tracemalloc.start()
    shards = divide([some_picture(number) for number in range(photos)], per_shard)
    driver = tracemalloc.get_traced_memory()[0] / photos
    tracemalloc.stop()
    manifest = len(pickle.dumps(shards[0])) / per_shard
    data = some_table(per_shard)
    from pyarrow import parquet

    return Parts(driver, manifest, len(data), parquet.read_metadata(io.BytesIO(data)).serialized_size)


def some_picture(number: int) -> Picture:
    """An entry of a bucket in folders by hash, as large collections have them."""
    name = f"{number * 2654435761 % (1 << 32):08x}"
    return Picture(
        f"{name[:2]}/{name[2:4]}/{name}{number:09d}.jpg", 200_000 + number % 1000, 1_700_000_000_000_000 + number
    )


def some_table(rows: int) -> bytes:
    """A finished table of random faces, one a photo."""
    rng, head = np.random.default_rng(0), load_head()
    names = [some_picture(number).name for number in range(rows)]
    table = {"photo": np.array(names), "status": np.array(["done"] * rows), "error": np.array([""] * rows)}
    table["face"], table["height"] = np.zeros(rows, np.int16), np.full(rows, 1024, np.int32)
    table["width"], table["confidence"] = table["height"], rng.random(rows).astype(np.float32)
    for name in COMPONENTS:
        table[name] = rng.normal(size=(rows, head.sizes[name])).astype(np.float32)
    for name, width in WIDTHS.items():
        table[name] = 1000 * rng.random((rows, width))
    table["arkit"] = rng.random((rows, 52)).astype(np.float32)
    facts = {"signature": "0" * 32, "expression": list(head.expression_names), "evidence": list(CONFIDENCE_FIELDS)}
    return encode(table, facts, "parquet")


def on_paper(photos: int, per_shard: int, parts: Parts) -> dict[str, float]:
    """What a run of so many photos takes besides the network.

    Returns:
        counts, GB (1e9 bytes), and requests to an object store: a photo is one GET, a table one PUT, a finished table
        at a restart one HEAD and one GET of its end.
    """
    tables = -(-photos // per_shard)
    lists = -(-photos // LISTED)
    return {
        "tables": tables,
        "driver memory, GB": photos * parts.driver / 1e9,
        "manifest, GB": photos * parts.manifest / 1e9,
        "tables, GB": tables * parts.table / 1e9,
        "requests to list the photos": lists,
        "requests of the run": photos + tables,
        "requests of a restart": lists + 2 * tables,
        "read at a restart, GB": tables * parts.footer / 1e9,
        "read at a restart if tables were read whole, GB": tables * parts.table / 1e9,
    }


class TinyWorker:
    """Makes a table of a shard: its records' numbers, and their sum; kills itself once at the table `deadly`."""

    def __init__(self, folder: Path, deadly: int, seconds: float):
        self.folder, self.deadly, self.seconds = folder, deadly, seconds

    def __call__(self, shard: Shard) -> int:
        mark = self.folder / "killed"
        if shard.number == self.deadly and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds * (SLOW_FACTOR if shard.number % SLOW_EVERY == 0 else 1))
        numbers = [picture.modified for picture in shard.pictures]
        with (self.folder / "made").open("a") as log:  # one short line is one write
            log.write(f"{shard.number}\n")
        name = f"faces-{shard.number:06d}.json"
        write_atomically(self.folder / name, json.dumps({METADATA: sum(numbers), "rows": numbers}).encode())
        return len(numbers)


@dataclass(frozen=True)
class Simulated:
    """records: in the tables.  lost, doubled: records in no table, in two.  made_again: tables made more than once.
    memory: MB of the driver at each tenth of the tables.  seconds: of wall time."""

    records: int
    lost: int
    doubled: int
    made_again: int
    crashed: int
    memory: tuple[float, ...]
    seconds: float


def simulate(
    folder: Path, records: int, per_shard: int = 256, workers: int = 2, ray: str | None = None, seconds: float = 0.0
) -> Simulated:
    """A run of tiny records into `folder`.

    Args:
        ray: address of a cluster, "local", or None for processes of this machine.  seconds: that a table takes.
    """
    shards = divide([Picture(str(number), 1, number) for number in range(records)], per_shard)
    make = partial(TinyWorker, folder, len(shards) // 2, seconds)
    if ray is None:
        pool = OrderedPool(make, workers, crashed_shard)
    else:
        from tokenface.core.cluster import RayPool

        pool = RayPool(make, workers, crashed_shard, ray, largest_block=1)  # type: ignore[assignment]
    start, memory, process, crashed = time.perf_counter(), [], psutil.Process(), 0
    try:
        for number, rows in enumerate(pool.map(shards)):
            crashed += rows < 0
            if number % max(1, len(shards) // 10) == 0:
                memory.append(round(process.memory_info().rss / 1e6, 1))
    finally:
        pool.close()
    found = np.zeros(records, np.int64)
    for path in folder.glob("faces-*.json"):
        found[json.loads(path.read_text())["rows"]] += 1
    made = np.bincount([int(line) for line in (folder / "made").read_text().split()], minlength=len(shards))
    return Simulated(
        records=int((found > 0).sum()),
        lost=int((found == 0).sum()),
        doubled=int((found > 1).sum()),
        made_again=int((made > 1).sum()),
        crashed=crashed,
        memory=tuple(memory),
        seconds=round(time.perf_counter() - start, 1),
    )


def crashed_shard(shard: Shard) -> int:
    """What stands for a table whose process dies whenever it is tried."""
    return -1


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("paper", "simulate"))
    parser.add_argument("--photos", type=int, default=100_000_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--per-shard", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray")
    options = parser.parse_args(arguments)
    if options.what == "paper":
        parts = measured_parts(options.per_shard)
        print(parts)
        for name, value in on_paper(options.photos, options.per_shard, parts).items():
            print(f"{name:52} {value:16,.1f}")
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = simulate(Path(folder), options.records, options.per_shard, options.workers, options.ray)
        print(json.dumps(dataclasses.asdict(figures)))


if __name__ == "__main__":
    from benchmarks import scale  # other processes find its classes by that name, and not by __main__

    scale.main()
