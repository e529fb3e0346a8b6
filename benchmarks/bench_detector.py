"""Speed of finding faces: `python benchmarks/bench_detector.py`; on labelled photos also the detection rate.

Best and median of several runs, milliseconds per photo, one thread. `--photos FOLDER` times and counts over a folder
(`--recursive` below it too); `--missed` lists the photos in which nothing was found.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from tokenface.images import Crop, FaceDetector, collect_images, extract, load_image
from tokenface.images.facemesh import FaceMesh, mesh_crop


def milliseconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Best and median time of some runs after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times[1:]), statistics.median(times[1:])


def portrait() -> np.ndarray:
    """A public-domain portrait (NASA), where scikit-image is installed."""
    try:
        from skimage import data
    except ImportError as error:
        raise SystemExit("without --photos the benchmark needs scikit-image: pip install 'tokenface[dev]'") from error
    return data.astronaut()


def stages(repeats: int) -> None:
    photo = portrait()
    detector, mesh = FaceDetector("blazeface"), FaceMesh()
    plain = FaceDetector("blazeface", mesh=False)
    found = detector.detect(photo)[0]
    if found.landmarks468 is None:
        raise SystemExit("the face mesh does not see the portrait's face")
    around = mesh_crop(found.landmarks468)
    large = cv2.resize(photo, (4000, 4000), interpolation=cv2.INTER_CUBIC)
    group = np.full((700, 1300, 3), 140, np.uint8)
    for i in range(10):
        size = 60 + 20 * i
        x, y = 20 + (i % 5) * 255, 30 + (i // 5) * 340
        group[y : y + size, x : x + size] = cv2.resize(
            photo[20:220, 120:320], (size, size), interpolation=cv2.INTER_AREA
        )
    empty = np.random.default_rng(0).integers(90, 110, (512, 512, 3), dtype=np.uint8)
    crop = found.crop()
    for name, run in (
        ("detector alone, 512 px portrait", lambda: plain.detect(photo)),
        ("face mesh, one pass", lambda: mesh.once(photo, around)),
        ("detect with mesh, 512 px portrait", lambda: detector.detect(photo)),
        ("detect with mesh, 4000 px portrait", lambda: detector.detect(large)),
        ("detect with mesh, upside down", lambda: detector.detect(np.ascontiguousarray(photo[::-1, ::-1]))),
        ("detect with mesh, ten faces", lambda: detector.detect(group)),
        ("no face at all (whole cascade)", lambda: detector.detect(empty)),
        ("crop 224 px from 512 px", lambda: extract(photo, [crop], 224)),
        ("crop 224 px from 4000 px", lambda: extract(large, [Crop((2000.0, 2000.0), 2400.0, 0.2)], 224)),
    ):
        best, median = milliseconds(run, repeats)
        print(f"{name:38s} best {best:7.1f} ms   median {median:7.1f} ms")


def folder(path: Path, recursive: bool, backend: str, missed: bool) -> None:
    detector = FaceDetector(backend)  # type: ignore[arg-type]
    times, faces, none = [], 0, []
    items = collect_images(path, recursive)
    for item in items:
        photo = load_image(item.source)
        start = time.perf_counter()
        found = detector.detect(photo)
        times.append((time.perf_counter() - start) * 1e3)
        faces += len(found)
        none += [] if found else [item.name]
    print(
        f"{path}: a face in {len(items) - len(none)} of {len(items)} photos, {faces} faces, "
        f"median {statistics.median(times):.1f} ms, mean {statistics.mean(times):.1f} ms"
    )
    for name in none if missed else []:
        print(f"  nothing in {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders to count and time")
    parser.add_argument("--recursive", action="store_true")
    parser.add_argument("--missed", action="store_true")
    parser.add_argument("--backend", default="blazeface", choices=["blazeface", "dlib"])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for path in options.photos:
        folder(path, options.recursive, options.backend, options.missed)
    if not options.photos:
        stages(options.repeats)


if __name__ == "__main__":
    main()
