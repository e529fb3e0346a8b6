"""Scan-to-mesh speed on NoW-sized scans, projected to the whole benchmark, and a comparison of search trees.

    python -m benchmarks.bench_evaluation [--images 20] [--workers 2] [--vertices 120000] [--trees]

Scans are OpenHead people, finely subdivided, with a scanner's noise; predictions are other OpenHead people. Every scan
serves four predictions. Both times are given: wall, and that of the processors, which a busy machine does not change.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from tokenface.evaluation.batch import Job, measure_all
from tokenface.evaluation.icp import Surface, spatial_order
from tokenface.evaluation.predict import ply_bytes, write_prediction
from tokenface.evaluation.scan_to_mesh import NOW, face_ball
from tokenface.geometry.landmarks import NOW7
from tokenface.head.data import HeadData
from tokenface.head.registry import head_path

NOW_IMAGES = 2054
PREDICTIONS_PER_SCAN = 4


def person(data: HeadData, seed: int, spread: float) -> np.ndarray:
    """[V, 3] metres."""
    weights = np.random.default_rng(seed).normal(scale=spread, size=len(data.shape_basis))
    return data.template.astype(np.float64) + np.tensordot(weights, data.shape_basis, 1)


def seven(data: HeadData, vertices: np.ndarray) -> np.ndarray:
    """[7, 3] NoW's points."""
    rows = [point - 17 for point in NOW7]
    corners = vertices[data.faces[data.static_landmark_faces[rows]]]
    return np.einsum("kcd,kc->kd", corners, data.static_landmark_barycentrics[rows])


def dense_scan(data: HeadData, seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `count` vertices nearest to the nose of a subdivided person in millimetres, triangles, landmarks."""
    import trimesh

    truth = person(data, seed, 1.0) * 1000
    points = seven(data, truth)
    hidden = np.zeros(len(truth), bool)
    for name in ("eyeballs", "mouth_interior", "left_socket", "right_socket"):
        hidden[data.regions[name]] = True
    vertices, faces = truth, data.faces[~hidden[data.faces].any(1)].astype(np.int64)
    while len(vertices) < 2 * count:
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    far = np.linalg.norm(vertices - face_ball(points)[0], axis=1)
    near = np.sort(np.argsort(far)[:count])
    place = np.full(len(vertices), -1)
    place[near] = np.arange(count)
    kept = place[faces]
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(count, 3))
    return vertices[near] + noise, kept[(kept >= 0).all(1)], points


def picked_points(points: np.ndarray) -> str:
    """The points as MeshLab writes them."""
    rows = [f' <point x="{x}" y="{y}" z="{z}" name="{k}" active="1"/>' for k, (x, y, z) in enumerate(points)]
    return "\n".join(["<!DOCTYPE PickedPoints>", "<PickedPoints>", *rows, "</PickedPoints>"])


def write_jobs(folder: Path, images: int, vertices: int) -> list[Job]:
    """Scans and predictions on disk."""
    data, jobs = HeadData.load(head_path("openhead")), []
    for number in range(images):
        scan = number // PREDICTIONS_PER_SCAN
        stem = folder / f"scan{scan}"
        if number % PREDICTIONS_PER_SCAN == 0:
            points, faces, landmarks = dense_scan(data, 1000 + scan, vertices)
            stem.with_suffix(".ply").write_bytes(ply_bytes(points, faces))
            stem.with_suffix(".pp").write_text(picked_points(landmarks))
        guess = person(data, 5000 + number, 0.5)
        place = folder / f"prediction{number}"
        write_prediction(place, guess, data.faces, seven(data, guess))
        files = [place.with_suffix(suffix) for suffix in (".ply", ".npy")]
        jobs.append(Job(str(number), str(scan), "", stem.with_suffix(".ply"), stem.with_suffix(".pp"), *files))
    return jobs


def measure_speed(images: int, workers: int, vertices: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        jobs = write_jobs(Path(name), images, vertices)
        wall, used = time.perf_counter(), processor_seconds()
        outcomes = list(measure_all(jobs, NOW, workers=workers))
        wall, used = time.perf_counter() - wall, processor_seconds() - used
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(failed[0])
    points = np.mean([len(outcome.values) for outcome in outcomes])
    rounds = np.mean([outcome.rounds for outcome in outcomes])
    print(f"{images} images, {vertices} vertices each, {points:.0f} in the face, {workers} workers")
    print(f"  all points were asked {rounds:.1f} times on average")
    whole = wall / images * NOW_IMAGES / 60
    print(f"  wall       {wall / images:6.3f} s per image, {NOW_IMAGES} images in {whole:.1f} min")
    alone = np.mean([outcome.seconds for outcome in outcomes])
    print(f"  processors {used / images:6.3f} s per image, reading and start of workers included")
    print(
        f"  processors {alone:6.3f} s per image, alignment and distances alone: "
        f"{NOW_IMAGES} images in {alone * NOW_IMAGES / 2 / 60:.1f} min on two idle cores"
    )


def processor_seconds() -> float:
    """Of this process and its finished children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def compare_trees(vertices: int) -> None:
    """Nearest points of one scan on one prediction, processor seconds, by the libraries that can be imported."""
    data = HeadData.load(head_path("openhead"))
    scan, _, landmarks = dense_scan(data, 1, vertices)
    centre, radius = face_ball(landmarks)
    points = scan[np.linalg.norm(scan - centre, axis=1) < radius]
    mesh = person(data, 2, 0.5) * 1000
    surface = Surface(mesh, data.faces)
    sorted_points = points[spatial_order(points)]
    print(f"{len(points)} points on {len(data.faces)} triangles, processor seconds")
    print(f"  libigl AABB, points as they are   {seconds(lambda: surface.nearest(points)):.3f}")
    print(f"  libigl AABB, points in order      {seconds(lambda: surface.nearest(sorted_points)):.3f}")
    print(f"  libigl AABB, building the tree    {seconds(lambda: Surface(mesh, data.faces)):.3f}")
    try:
        import open3d
    except ImportError:
        return
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(open3d.core.Tensor(mesh.astype(np.float32)), open3d.core.Tensor(data.faces.astype(np.uint32)))
    query = open3d.core.Tensor(sorted_points.astype(np.float32))
    print(f"  Open3D (embree, single precision) {seconds(lambda: scene.compute_closest_points(query, nthreads=1)):.3f}")


def seconds(run) -> float:
    """Best processor time of three calls."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--vertices", type=int, default=120_000)
    parser.add_argument("--trees", action="store_true", help="compare the libraries instead")
    arguments = parser.parse_args()
    if arguments.trees:
        compare_trees(arguments.vertices)
    else:
        measure_speed(arguments.images, arguments.workers, arguments.vertices)


if __name__ == "__main__":
    main()
