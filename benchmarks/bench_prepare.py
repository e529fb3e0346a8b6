"""Preparation: photos per second and core, and what damaged files cost.

`python -m benchmarks.bench_prepare --photos FOLDER` copies the folder's pictures until there are `--count`, damages
`--corrupt` of them in six ways, prepares them in this process and compares the report with what was done.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tokenface.images.loading import collect_images
from tokenface.prepare.options import PrepareOptions, QualityFilter
from tokenface.prepare.run import Preparation


def damage(path: Path, way: int) -> None:
    """Six ways in which files on disks are broken."""
    data = path.read_bytes()
    broken = (
        b"",
        data[:20],
        data[: len(data) // 2],
        bytes(len(data)),
        np.random.default_rng(way).bytes(len(data)),
        b"<html>403 Forbidden</html>",
    )
    path.write_bytes(broken[way % len(broken)])


def fill(folder: Path, photos: list[Path], count: int, corrupt: int) -> set[str]:
    """Copy `count` pictures; returns the paths of those that were damaged."""
    damaged = set(np.random.default_rng(0).permutation(count)[:corrupt].tolist())
    names = set()
    for number in range(count):
        source = photos[number % len(photos)]
        path = folder / f"{number:06d}{source.suffix}"
        shutil.copyfile(source, path)
        if number in damaged:
            damage(path, len(names))
            names.add(str(path))
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--corrupt", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = [Path(str(item.source)) for item in collect_images(options.photos, recursive=True)]
    keep_all = QualityFilter(smallest_face=0, sharpness=0, inside=0, misfit=1e9, presence=0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        damaged = fill(folder, photos, options.count, options.corrupt)
        run = Preparation(
            "folder", folder, Path(temporary) / "shards", PrepareOptions(quality=keep_all), options.workers
        )
        wall, processor = time.perf_counter(), time.process_time()
        for _ in run:
            pass
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        report = run.report
        failed = {source for source, _ in report.failures}
        print(f"{options.count} photos ({len(photos)} different), {options.corrupt} damaged, {options.workers} workers")
        print(f"wall {wall:.1f} s; processor {processor:.1f} s")
        if options.workers == 1:
            print(f"{options.count / processor:.1f} photos per second and core, start-up included")
        print(f"records {report.done}, no face {report.rejected}, reported as damaged {len(failed)}")
        print(f"damaged and not reported: {len(damaged - failed)}; sound and reported: {len(failed - damaged)}")
        print(f"lost: {options.count - report.done - report.rejected - len(failed)}")


if __name__ == "__main__":
    main()
