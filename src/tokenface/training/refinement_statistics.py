"""Measurement of the error statistics that refinement uses, on rendered heads; writes the package's file.

    python -m tokenface.training.refinement_statistics [--pictures 1500] [--weights NAME_OR_PATH] [--output FILE]

To be repeated when the weights change. The people come from seeds of their own: neither training nor any benchmark uses
them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from tokenface.data.record import FaceBatch
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.open_methods import as_photos, camera_on_picture
from tokenface.geometry.crop import Crop
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.face import Face
from tokenface.model import Reconstructor
from tokenface.refinement.landmarks import MeshPoints
from tokenface.refinement.refine import LEAST_FACING
from tokenface.refinement.statistics import ERROR_MODES, FILE_NAME, Statistics, view_terms
from tokenface.refinement.view import view_of

SEED = 77_000_000
SIZE = 192
BATCH = 50
LEAST_CONFIDENCE = 0.3
WILD = 2.5
"""Pictures whose points miss by so many times the median are the mesh's failures (hands, hats), not its error_modes."""
RIDGE = 2.0
MIRRORED_TERMS = np.array([1.0, -1, 1, 1, -1, 1])


@dataclass(frozen=True)
class Misses:
    """Of N pictures. points: [N, 468, 2] metres, upright (see `Statistics`).  facing: [N, 468] cosines.
    angles: [N, 2] yaw, pitch.  components: [N, S + E + 3 + 6] truth less the network's prediction."""

    points: np.ndarray
    facing: np.ndarray
    angles: np.ndarray
    components: np.ndarray


def misses_of(face: Face, batch: FaceBatch, index: int, model: MeshPoints) -> tuple[np.ndarray, ...]:
    """One picture's row of `Misses`."""
    size = batch.image.shape[-1]
    truth, found = batch.parameters[index], face.parameters
    whole = Crop((size / 2, size / 2), float(size))
    pivot = model.mean.mean(0)

    def seen_by(vector: np.ndarray):
        return view_of(FaceCamera(vector, whole, (size, size)), pivot)

    true_view = seen_by(truth.camera.double().numpy())
    own_view = seen_by(camera_on_picture(face.camera, size))
    yaw, pitch, roll = face.camera.angles
    upright = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    coefficients = torch.cat([truth.shape, truth.expression]).double().numpy()
    place = true_view.project(model(coefficients, truth.jaw.double().numpy()))
    mesh = (np.asarray(face.observed468)[model.valid, :2] * 2 / size - 1) * [1.0, -1.0]
    moved = true_view.difference(own_view)
    moved[:2], moved[4:] = upright @ moved[:2], upright @ moved[4:] / own_view.scale
    normals = mesh_normals(face.vertices, face.head.data.faces)[model.vertex]
    parts = [(getattr(truth, name) - getattr(found, name)).numpy() for name in ("shape", "expression", "jaw")]
    return (
        (mesh - place) @ upright.T / own_view.scale,
        (normals @ own_view.rotation.T)[:, 2],
        np.array([yaw, pitch]),
        np.concatenate([*parts, moved]),
    )


def collect(model: Reconstructor, pictures: int) -> Misses:
    """Render people and run the whole chain on them; pictures without a trusted face are left out."""
    generator, points = SyntheticFaces(model.head, SIZE), MeshPoints(model.head)
    rows = []
    for start in range(0, pictures, BATCH):
        batch = generator.sample(min(BATCH, pictures - start), SEED + start)
        for index, result in enumerate(model.iterate(as_photos(batch.image), max_faces=1)):
            face = result.faces[0] if result.faces else None
            if face is not None and face.observed468 is not None and face.confidence > LEAST_CONFIDENCE:
                rows.append(misses_of(face, batch, index, points))
        print(f"{start + len(batch)} pictures, {len(rows)} faces", flush=True)
    return Misses(*(np.stack(column) for column in zip(*rows, strict=True)))


def summarise(misses: Misses, partner: np.ndarray, sizes: tuple[int, int]) -> Statistics:
    """Bias by least squares, common error_modes by principal components, the rest per point; every picture counts
    with its mirror image.

    Args:
        partner: [468] the point on the other side.  sizes: of shape and expression.
    """
    points = np.concatenate([misses.points, misses.points[:, partner] * [-1, 1]])
    facing = np.concatenate([misses.facing, misses.facing[:, partner]])
    angles = np.concatenate([misses.angles, misses.angles * [-1, 1]])
    shown = (facing > LEAST_FACING).astype(float)
    length = np.linalg.norm(points, axis=2)
    typical = (length * shown).sum(1) / shown.sum(1)
    kept = typical < WILD * np.median(typical)
    points, shown, angles = points[kept], shown[kept], angles[kept]

    terms = view_terms(angles[:, 0], angles[:, 1]).T
    bias = np.zeros((terms.shape[1], points.shape[1], 2))
    for point in range(points.shape[1]):
        weighted = terms * shown[:, point : point + 1]
        bias[:, point] = np.linalg.solve(
            weighted.T @ terms + RIDGE * np.eye(terms.shape[1]), weighted.T @ points[:, point]
        )
    rest = (points - np.einsum("nf,fpc->npc", terms, bias)) * shown[..., None]
    spread = np.sqrt(np.square(rest).sum((0, 2)) / shown.sum(0) / 2)
    flat = (rest / spread[:, None]).reshape(len(rest), -1)
    _, strength, patterns = np.linalg.svd(flat / np.sqrt(len(flat)), full_matrices=False)
    patterns = patterns[:ERROR_MODES]
    error_modes = (strength[:ERROR_MODES, None] * patterns).reshape(-1, points.shape[1], 2) * spread[:, None]
    left = (flat - flat @ patterns.T @ patterns).reshape(rest.shape)
    deviation = np.sqrt(np.square(left).sum((0, 2)) / shown.sum(0) / 2) * spread

    error = np.sqrt(np.square(misses.components).mean(0))
    s, e = sizes
    view = error[s + e + 3 :]
    return Statistics(
        bias, error_modes, deviation, error[:s].mean(keepdims=True), error[s : s + e], error[s + e : s + e + 3], view
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--weights")
    parser.add_argument("--output", type=Path, default=Path(str(resources.files("tokenface"))) / "assets" / FILE_NAME)
    arguments = parser.parse_args()
    model = Reconstructor.load(arguments.weights)
    stored = json.loads(resources.files("tokenface.tools.openhead").joinpath("mesh468.json").read_text())
    sizes = (model.head.sizes.shape, model.head.sizes.expression)
    found = summarise(collect(model, arguments.pictures), np.array(stored["mirror"]), sizes)
    path = found.save(arguments.output)
    print(f"rest {1000 * found.deviation.mean():.2f} mm; network's shape {found.shape[0]:.2f} → {path}")


if __name__ == "__main__":
    main()
