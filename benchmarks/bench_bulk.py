"""Bulk runs on a real local Ray: images a second with 1 and 2 workers, what a killed worker costs, equal tables.

python benchmarks/bench_bulk.py [--photos 2000] [--per-shard 50] [--folder DIR] [--runs 1,2,2k]

The photos are rendered faces (seed 0), each moved, flipped and relit a little, so that no two are alike. In "2k" one of
two Ray actors gets SIGKILL when a third of the photos is done. Wall time says what a person waits on this machine as it
is; processor time is of all processes of the run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head
from tokenface.jobs.bulk.run import BulkRun
from tokenface.jobs.bulk.shard import BulkOptions

PEOPLE = 100
SIDE = 160
"""Pixels of a photo; its face is about half as wide."""


def make_photos(folder: Path, count: int) -> None:
    """Rendered faces on a canvas, moved, mirrored and relit."""
    folder.mkdir(parents=True, exist_ok=True)
    if sum(1 for _ in folder.glob("*.jpg")) == count:
        return
    faces = SyntheticFaces(load_head("openhead"), SIDE * 3 // 4).sample(min(PEOPLE, count), seed=0).image
    faces = (faces.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    random = np.random.default_rng(0)
    for number in range(count):
        face = faces[number % len(faces)]
        if random.random() < 0.5:
            face = face[:, ::-1]
        canvas = np.full((SIDE, SIDE, 3), random.integers(60, 200, 3), np.uint8)
        x, y = random.integers(0, SIDE - face.shape[1] + 1, 2)
        canvas[y : y + face.shape[0], x : x + face.shape[1]] = np.clip(face * random.uniform(0.7, 1.1), 0, 255)
        Image.fromarray(canvas).save(folder / f"{number:05d}.jpg", quality=90)


class ProcessorTime:
    """Seconds of the processor that this process and all its descendants have used, dead ones included."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._start = 0.0

    def __enter__(self) -> ProcessorTime:
        self._look()
        self._start = sum(self._seen.values())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self.seconds = sum(self._seen.values()) - self._start

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._look()

    def _look(self) -> None:
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system
            except psutil.Error:
                continue


def one_run(photos: Path, output: Path, per_shard: int, workers: int, kill: bool) -> None:
    """A run from nothing on a Ray of its own."""
    work = BulkRun(photos, output, BulkOptions(per_shard=per_shard, device="cpu"), workers=workers, ray="local")
    start, done, first = time.perf_counter(), 0, 0.0
    with ProcessorTime() as processor:
        for report in work:
            done += report.photos
            first = first or time.perf_counter() - start
            if kill and done >= work.total / 3:
                kill = False
                actors = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in p.name()]
                print(f"  SIGKILL to one of {len(actors)} actors after {done} photos", flush=True)
                os.kill(actors[0].pid, signal.SIGKILL)
    wall = time.perf_counter() - start
    print(
        f"  {work.total} photos, {work.report.faces} faces, {work.report.without_face} without: {wall:.0f} s wall, "
        f"{work.total / wall:.1f} images/s ({first:.0f} s to the first table), {processor.seconds:.0f} s processor, "
        f"{1000 * processor.seconds / work.total:.0f} ms an image",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--per-shard", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path("out/bench_bulk"))
    parser.add_argument("--runs", default="1,2,2k", help="workers, with k: one is killed")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one run, in a process of its own as a person's would be
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    photos = arguments.folder / "photos"
    make_photos(photos, arguments.photos)
    if arguments.only:
        name = arguments.only
        output = arguments.folder / f"tables-{name}"
        one_run(photos, output, arguments.per_shard, int(name.rstrip("k")), name.endswith("k"))
        return
    tables = {}
    for name in arguments.runs.split(","):
        print(f"{name.rstrip('k')} workers{', one killed' if name.endswith('k') else ''}", flush=True)
        output = arguments.folder / f"tables-{name}"
        for old in output.glob("faces-*") if output.is_dir() else ():
            old.unlink()
        subprocess.run([sys.executable, *sys.argv, "--only", name], check=True)
        tables[name] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.iterdir())}
    first, *others = tables.values()
    if others:
        print(f"tables of all runs are equal: {all(other == first for other in others)} ({len(first)} files)")


if __name__ == "__main__":
    main()
