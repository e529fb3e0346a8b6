"""How well OpenHead's identity basis expresses real faces: direct fits to ICT-FaceKit people and to real scans.

Every surface is fitted twice: the mean head with a similarity alone, and the basis with its unit-variance prior. Half
of a surface's points are fitted, distances (scan to mesh, exact point to triangle) are of the other half. Prints the
ratio of the two mean errors, the rms of the coefficients, and how many visible triangles turned over.

    python benchmarks/openhead_fit.py DATA [--people 12] [--head FILE] [--pictures FOLDER]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from tokenface.geometry.closest import closest_on_mesh, on_triangles, seen_from
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head.data import HeadData
from tokenface.head.fitting import Surface, fit_surface
from tokenface.tools.openhead.unfold import flipped, sizeable_triangles

RADIUS = 0.095
"""Metres around the nose that count as face (before scaling: of the mean head's size)."""
NOISE = (0.004, 0.003, 0.002, 0.0015, 0.0012, 0.001, 0.0008)
MOST_POINTS = 7000
CAMERAS = Rotation.from_euler(
    "yx", [(yaw, pitch) for yaw in (0, -35, 35, -70, 70) for pitch in (0, -30, 30)], degrees=True
).apply([0.0, 0.0, 1.0])
"""Where a scanner may stand: only points that one of these sees count, not the inside of mouth, nostrils and lids."""
PICKED_LEE = {  # pixels of a frontal orthographic picture of the scan, half-width 250
    36: (188, 152),
    39: (227, 152),
    42: (262, 152),
    45: (303, 152),
    30: (245, 182),
    48: (219, 227),
    54: (273, 227),
    51: (247, 215),
    57: (247, 239),
}
"""Read off the picture by eye: the scan has no landmarks; they only start the fit."""


@dataclass(frozen=True)
class Scan:
    name: str
    vertices: np.ndarray
    faces: np.ndarray
    points: np.ndarray  # [L] iBUG numbers
    landmarks: np.ndarray  # [L, 3]
    lids_closed: bool = False  # leave the eyes out: the head's are open


@dataclass(frozen=True)
class Result:
    name: str
    mean_error: float  # millimetres at adult size
    fit_error: float
    coefficient_rms: float
    flipped: int
    vertices: np.ndarray

    @property
    def ratio(self) -> float:
        return self.fit_error / self.mean_error


def evaluate(head: HeadData, scan: Scan, noise: float = NOISE[-1]) -> Result:
    """Fit the mean head and the basis to one scan."""
    mean = head.template.astype(np.float64)
    basis = head.shape_basis.astype(np.float64)
    outside = np.setdiff1d(np.arange(len(mean)), hidden_vertices(head))
    skin = np.flatnonzero(np.isin(head.faces, outside).all(1))
    vertices68 = landmark_vertices(head)
    size = np.linalg.norm(mean[vertices68[36]] - mean[vertices68[45]])
    where = {int(p): k for k, p in enumerate(scan.points)}
    scale = np.linalg.norm(scan.landmarks[where[36]] - scan.landmarks[where[45]]) / size
    nose = scan.landmarks[where[30]]
    normals = mesh_normals(scan.vertices, scan.faces)
    used = np.unique(scan.faces)
    used = used[np.linalg.norm(scan.vertices[used] - nose, axis=1) < RADIUS * scale]
    for eye in ((36, 39), (42, 45)) if scan.lids_closed else ():
        inner, outer = (scan.landmarks[where[point]] for point in eye)
        reach = 0.6 * np.linalg.norm(inner - outer)
        used = used[np.linalg.norm(scan.vertices[used] - (inner + outer) / 2, axis=1) > reach]
    used = used[seen_from(CAMERAS, scan.vertices, scan.faces, used, 0.3 * scale)]
    order = np.random.default_rng(0).permutation(used)[:MOST_POINTS]
    fitted, measured = order[::2], order[1::2]
    surface = Surface(scan.vertices[fitted], normals[fitted], scan.landmarks, vertices68[scan.points])
    everything = Surface(scan.vertices[measured], normals[measured], surface.landmarks, surface.landmark_vertices)
    errors = []
    for shapes in (basis[:0], basis):
        fit = fit_surface(
            mean,
            shapes,
            head.faces,
            surface,
            noise=[max(s, noise) for s in NOISE[:-1]] + [noise],
            reach=0.010,
            skin=skin,
        )
        moved = _carry(surface.points, fit.points, everything.points)
        triangle, barycentrics = closest_on_mesh(moved, fit.vertices, head.faces[skin])
        nearest = on_triangles(fit.vertices, head.faces[skin], triangle, barycentrics)
        errors.append(1e3 * np.linalg.norm(moved - nearest, axis=1).mean())
    return Result(
        scan.name,
        errors[0],
        errors[1],
        float(np.sqrt((fit.coefficients**2).mean())),
        int(flipped(mean, fit.vertices, sizeable_triangles(mean, head.faces[skin])).sum()),
        fit.vertices,
    )


def hidden_vertices(head: HeadData) -> np.ndarray:
    """Vertices that no scanner sees: eyes, mouth cavity, tongue, teeth."""
    names = ("eyeballs", "mouth_interior", "left_socket", "right_socket")
    return np.unique(np.concatenate([head.regions[name] for name in names]))


def landmark_vertices(head: HeadData) -> np.ndarray:
    """[68] nearest vertex of each iBUG point seen from the front."""
    row = -head.contour_first_yaw
    faces = np.concatenate([head.contour_faces[row], head.static_landmark_faces])
    barycentrics = np.concatenate([head.contour_barycentrics[row], head.static_landmark_barycentrics])
    return head.faces[faces][np.arange(68), barycentrics.argmax(1)]


def ict_people(path: Path, people: int, seed: int = 7) -> list[Scan]:
    """Random people of ICT-FaceKit's identity model, face part only, centimetres."""
    with np.load(path) as file:
        vertices, identity = file["vertices"][:9409], file["identity"][:, :9409].astype(np.float32)
        quads, marks = file["quads"], file["landmarks68"]
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    faces = faces[distinct & (faces < 9409).all(1)]
    weights = np.random.default_rng(seed).standard_normal((people, len(identity))).astype(np.float32)
    points = np.arange(27, 68)
    scans = []
    for number, weight in enumerate(weights):
        shape = (vertices + np.tensordot(weight, identity, 1)).astype(np.float64)
        scans.append(Scan(f"ict {number}", shape, faces, points, shape[marks[points]]))
    return scans


def james(folder: Path) -> Scan:
    """The scan with 68 landmarks; they come in groups, of which the corners are taken."""
    mesh = trimesh.load(folder / "james.obj", process=False, force="mesh")
    group = json.loads((folder / "james.ljson").read_text())["groups"]["LJSON"]
    points = np.array(group["landmarks"]["points"], dtype=np.float64)
    masks = {entry["label"]: points[entry["mask"]] for entry in group["labels"]}
    eyes = sorted((masks["leye"], masks["reye"]), key=lambda eye: eye[:, 0].mean())
    mouth = points[48:68] if "mouth" not in masks else masks["mouth"]
    nose = masks["nose"]
    picked = {
        36: eyes[0][eyes[0][:, 0].argmin()],
        39: eyes[0][eyes[0][:, 0].argmax()],
        42: eyes[1][eyes[1][:, 0].argmin()],
        45: eyes[1][eyes[1][:, 0].argmax()],
        30: nose[nose[:, 2].argmax()],
        48: mouth[mouth[:, 0].argmin()],
        54: mouth[mouth[:, 0].argmax()],
    }
    return Scan(
        "james", np.array(mesh.vertices), np.array(mesh.faces), np.array(list(picked)), np.array(list(picked.values()))
    )


def lee(folder: Path) -> Scan:
    """The scan without landmarks: pixels picked on its frontal picture, lifted to the surface."""
    mesh = trimesh.load(folder / "LeePerrySmith.obj", process=False, force="mesh")
    low, high = mesh.bounds
    # eyeballs and the bag of the mouth are shells of their own inside the skin
    mesh = max(mesh.split(only_watertight=False), key=lambda shell: len(shell.vertices))
    vertices = np.array(mesh.vertices)
    centre, half = (low + high) / 2, (high - low).max() / 2
    marks = []
    for x, y in PICKED_LEE.values():
        place = centre[:2] + np.array([x / 250 - 1, 1 - y / 250]) * half
        near = np.flatnonzero(np.linalg.norm(vertices[:, :2] - place, axis=1) < 0.03 * half)
        marks.append(vertices[near[np.argmax(vertices[near, 2])]])
    return Scan("lee_perry_smith", vertices, np.array(mesh.faces), np.array(list(PICKED_LEE)), np.array(marks))


def _carry(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply to points the similarity that took before to after."""
    x, y = before - before.mean(0), after - after.mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    return (points - before.mean(0)) @ (s.sum() / (x**2).sum() * (u @ vt)).T + after.mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with ict_facekit.npz and scans/")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--noise", type=float, default=NOISE[-1], help="metres, of a scan point at the end of the fit")
    parser.add_argument("--head", type=Path, default=Path("src/tokenface/assets/openhead.safetensors"))
    arguments = parser.parse_args()
    head = HeadData.load(arguments.head)
    scans = ict_people(arguments.data / "ict_facekit.npz", arguments.people)
    scans += [james(arguments.data / "scans" / "james"), lee(arguments.data / "scans" / "lee_perry_smith")]
    scans.append(replace(scans[-1], name="… without lids", lids_closed=True))
    print(f"{'surface':18} {'mean head':>10} {'fit':>8} {'ratio':>7} {'coef rms':>9} {'flipped':>8}")
    results = []
    for scan in scans:
        results.append(evaluate(head, scan, arguments.noise))
        r = results[-1]
        print(
            f"{r.name:18} {r.mean_error:7.2f} mm {r.fit_error:5.2f} mm {r.ratio:7.3f} "
            f"{r.coefficient_rms:9.2f} {r.flipped:8d}"
        )
    people = results[: arguments.people]
    print(
        f"{'ICT people':18} {np.mean([r.mean_error for r in people]):7.2f} mm "
        f"{np.mean([r.fit_error for r in people]):5.2f} mm {np.mean([r.ratio for r in people]):7.3f} "
        f"{np.mean([r.coefficient_rms for r in people]):9.2f} {sum(r.flipped for r in people):8d}"
    )


if __name__ == "__main__":
    main()
