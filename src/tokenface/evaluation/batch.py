"""Parallel evaluation of many predictions, with one cached file per prediction for resuming."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.core.files import write_atomically
from tokenface.core.fingerprint import content_hash, fingerprint
from tokenface.errors import EvaluationError
from tokenface.evaluation.icp import Surface
from tokenface.evaluation.mesh_files import (
    read_indexed_points,
    read_mesh,
    read_picked_points,
    read_seven_landmarks,
    seven_points,
)
from tokenface.evaluation.scan_to_mesh import MILLIMETRES, Protocol, ScanFace, Unit, face_regions, measure, scan_face
from tokenface.geometry.similarity import Similarity

CACHE_VERSION = 1
"""Raised whenever the same input would give other numbers."""
CHUNK = 6
"""Images of one scan that one worker takes at a time."""
WRONG_UNIT = 4.0
"""A metrical prediction that its landmarks make larger or smaller than the scan by more than this has another unit."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "IGL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One image. name: how messages and tables call it.  person, challenge: groups of the tables.

    mesh or landmarks None: the prediction is missing.  scan, scan_landmarks: `.obj` or `.ply`, and `.pp` or `.lnd`, in
    millimetres.
    """

    name: str
    person: str
    challenge: str
    scan: Path
    scan_landmarks: Path
    mesh: Path | None
    landmarks: Path | None


@dataclass(frozen=True)
class Outcome:
    """Result of a job. error: one line, None when measured.

    distances: [P] float32 millimetres, in the scan's own vertex order.  kept: [P] vertex numbers of the scan.
    regions: [P] uint8, into `REGIONS`.  pose: prediction to scan.  seconds: of the processor, for
    alignment and distances.
    """

    job: Job
    error: str | None = None
    distances: np.ndarray | None = None
    kept: np.ndarray | None = None
    regions: np.ndarray | None = None
    pose: Similarity | None = None
    rounds: int = 0
    restarted: bool = False
    seconds: float = 0.0

    @property
    def missing(self) -> bool:
        return self.job.mesh is None or self.job.landmarks is None

    @property
    def values(self) -> np.ndarray:
        """The distances of a job that was measured."""
        assert self.distances is not None
        return self.distances


def measure_all(
    jobs: Sequence[Job], protocol: Protocol, unit: Unit = "m", cache: Path | None = None, workers: int = 1
) -> Iterator[Outcome]:
    """An outcome for every job, as they come; a bad file costs only its own job.

    Args:
        cache: folder of finished measurements; each is known by the content of its files and the protocol.
        workers: processes; 1 measures in this one.
    """
    groups: dict[Path, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.scan, []).append(job)
    chunks = [group[k : k + CHUNK] for group in groups.values() for k in range(0, len(group), CHUNK)]
    if workers <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from _measure_chunk(chunk, protocol, unit, cache)
        return
    with _single_threaded(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for outcomes in pool.map(
            _measure_chunk, chunks, [protocol] * len(chunks), [unit] * len(chunks), [cache] * len(chunks)
        ):
            yield from outcomes


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Workers inherit one thread each: the parallel work is over images."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _measure_chunk(jobs: Sequence[Job], protocol: Protocol, unit: Unit, cache: Path | None) -> list[Outcome]:
    return [_measure_one(job, protocol, unit, cache) for job in jobs]


def _measure_one(job: Job, protocol: Protocol, unit: Unit, cache: Path | None) -> Outcome:
    if job.mesh is None or job.landmarks is None:
        what = "mesh" if job.mesh is None else "file of landmarks"
        return Outcome(job, f"no predicted {what} for '{job.name}'")
    try:
        key = _key(job, protocol, unit)
        stored = None if cache is None else _load(cache / f"{key}.npz", job)
        if stored is not None:
            return stored
        outcome = _compute(job, protocol, unit)
    except EvaluationError as error:
        return Outcome(job, str(error))
    except Exception as error:  # one prediction must never stop the others
        return Outcome(job, f"'{job.name}' cannot be measured ({type(error).__name__}: {' '.join(str(error).split())})")
    if cache is not None:
        _store(cache / f"{key}.npz", outcome)
    return outcome


def _compute(job: Job, protocol: Protocol, unit: Unit) -> Outcome:
    assert job.mesh is not None
    assert job.landmarks is not None
    scan = load_scan(job.scan, job.scan_landmarks, protocol)
    mesh, landmarks = read_mesh(job.mesh), read_seven_landmarks(job.landmarks)
    if protocol.metrical:
        _check_unit(job, scan, landmarks, unit)
    begun = time.process_time()
    found = measure(scan, Surface(mesh.vertices, mesh.faces), landmarks, protocol, unit)
    seconds = time.process_time() - begun
    back = np.argsort(scan.kept)
    return Outcome(
        job,
        None,
        found.distances[back].astype(np.float32),
        scan.kept[back],
        face_regions(scan.points, scan.landmarks)[back].astype(np.uint8),
        found.pose,
        found.rounds,
        found.restarted,
        seconds,
    )


def _check_unit(job: Job, scan: ScanFace, landmarks: np.ndarray, unit: Unit) -> None:
    def size(points: np.ndarray) -> float:
        return float(np.sqrt(((points - points.mean(0)) ** 2).sum()))

    factor = size(scan.landmarks) / (size(landmarks) * MILLIMETRES[unit])
    if not 1 / WRONG_UNIT < factor < WRONG_UNIT:
        likely = min(MILLIMETRES, key=lambda u: abs(np.log(factor * MILLIMETRES[unit] / MILLIMETRES[u])))
        advice = f"it looks like {likely}: use --unit {likely}" if likely != unit else "check its unit and landmarks"
        raise EvaluationError(f"'{job.mesh}' is {1 / factor:.3g} times the scan's size if its unit is {unit}; {advice}")


@lru_cache(maxsize=2)
def load_scan(scan: Path, landmarks: Path, protocol: Protocol) -> ScanFace:
    """A scan's face, kept for the next image of the same person.

    Raises:
        EvaluationError: unreadable, or scan and landmarks do not belong together.
    """
    mesh = read_mesh(scan)
    reader = read_picked_points if landmarks.suffix.lower() == ".pp" else read_indexed_points
    points = reader(landmarks)
    if protocol.quirks:  # the official reader keeps landmarks in single precision
        points = points.astype(np.float32).astype(np.float64)
    try:
        return scan_face(mesh.vertices, seven_points(landmarks, points), protocol)
    except ValueError as error:
        raise EvaluationError(f"'{scan}' and '{landmarks}': {error}") from error


def _key(job: Job, protocol: Protocol, unit: Unit) -> str:
    assert job.mesh is not None
    assert job.landmarks is not None
    files = {"scan": job.scan, "points": job.scan_landmarks, "mesh": job.mesh, "landmarks": job.landmarks}
    return fingerprint(
        {
            "protocol": protocol,
            "unit": unit if protocol.metrical else "",
            "version": CACHE_VERSION,
            **{name: content_hash(path) for name, path in files.items()},
        }
    )


def _store(path: Path, outcome: Outcome) -> None:
    assert outcome.pose is not None
    buffer = io.BytesIO()
    np.savez(
        buffer,
        distances=outcome.values,
        kept=np.asarray(outcome.kept, np.int32),
        regions=np.asarray(outcome.regions, np.uint8),
        scale=outcome.pose.scale,
        rotation=outcome.pose.rotation,
        translation=outcome.pose.translation,
        rounds=outcome.rounds,
        restarted=outcome.restarted,
        seconds=outcome.seconds,
    )
    write_atomically(path, buffer.getvalue())


def _load(path: Path, job: Job) -> Outcome | None:
    if not path.is_file():
        return None
    try:
        with open_arrays(path) as stored:
            pose = Similarity(float(stored["scale"]), stored["rotation"], stored["translation"])
            return Outcome(
                job,
                None,
                stored["distances"],
                stored["kept"],
                stored["regions"],
                pose,
                int(stored["rounds"]),
                bool(stored["restarted"]),
                float(stored["seconds"]),
            )
    except (OSError, ValueError, KeyError):  # a damaged cache is measured again
        return None
