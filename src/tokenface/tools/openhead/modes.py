"""Identity basis: PCA of one covariance mixed from real scans, `anny`'s population and smooth fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tokenface.geometry.mesh_normals import vertex_areas
from tokenface.geometry.similarity import aligned
from tokenface.tools.openhead.cut import HeadCut, alignment_weights, face_weight
from tokenface.tools.openhead.gaussian_process import EyeKeeper
from tokenface.tools.openhead.generators import Calibration, remove_similarity

REAL_SHARE = 0.6
"""Share of real-scan people in the mixture; the rest are `anny`'s, who bring children, age, weight and ancestry."""
SMOOTH_SCALE = 0.30
"""Standard deviation of the smooth fields in the mixture, relative to the kernels': room for what neither has seen."""
ASYMMETRY = 0.35
"""Standard deviation of mirror-antisymmetric smooth fields relative to symmetric ones."""
POPULATION_MODES = 200


@dataclass(frozen=True)
class IdentityModel:
    """mean [V, 3]; basis [S, V, 3], metres per standard deviation, strongest first; variance_share [S]."""

    mean: np.ndarray
    basis: np.ndarray
    variance_share: np.ndarray


def identity_model(
    cut: HeadCut, people: np.ndarray, fields: np.ndarray, smooth: slice, calibration: Calibration, modes: int
) -> IdentityModel:
    """Mixture of two Gaussian populations plus smooth fields, decomposed in the area-weighted metric.

    Mirroring every person makes the mixture symmetric, so it splits into symmetric and antisymmetric modes exactly.
    In the metric, coefficients of people drawn from the mixture are uncorrelated with unit variance.

    Args:
        people: [P, V, 3] of `sample_population`, head space.  fields: [G, V, 3] of `generators`.
        smooth: where the Gaussian-process fields are among them.  modes: S.
    """
    weights = alignment_weights(cut)
    placed, people_mean = _procrustes(people, cut, weights)
    sampled = _reduce((placed - people_mean) / np.sqrt(len(placed)), cut)
    real_mean = cut.vertices + np.tensordot(calibration.mean, fields, 1)
    real = np.tensordot(calibration.factors, fields, 1)
    smooth_fields = SMOOTH_SCALE * fields[smooth]
    keep = EyeKeeper(cut)
    share = REAL_SHARE
    real_mean = aligned(_mirror_average(real_mean, cut)[None], people_mean, weights)[0]
    mean = share * real_mean + (1 - share) * people_mean
    mean = aligned(mean[None], cut.vertices, weights)[0]  # back to the metric size
    mean[:, 0] -= (weights * mean[:, 0]).sum()
    mean = _mirror_average(mean, cut)
    columns = [
        np.sqrt(share) * keep(real),
        np.sqrt(1 - share) * sampled,
        np.sqrt(share * (1 - share)) * (real_mean - people_mean)[None],
        smooth_fields,
    ]
    relative = [1.0, 1.0, 1.0, ASYMMETRY]
    flat = remove_similarity(np.concatenate(columns), cut)
    mirrored = flat[:, cut.mirror] * [-1, 1, 1]
    scale = np.repeat(relative, [len(c) for c in columns])[:, None, None]
    basis, variance = [], []
    for part in ((flat + mirrored) / 2, scale * (flat - mirrored) / 2):
        vectors, values = _principal(part, cut, modes)
        basis.append(vectors)
        variance.append(values)
    order = np.argsort(-np.concatenate(variance), kind="stable")[:modes]
    total = sum(v.sum() for v in variance)
    return IdentityModel(mean, np.concatenate(basis)[order], np.concatenate(variance)[order] / total)


def metric_weights(cut: HeadCut) -> np.ndarray:
    """[V] importance of a vertex in the PCA: area, the face fully, skull and neck a fifth, hidden parts hardly."""
    skin = np.full(cut.vertex_count, 0.02)
    skin[cut.part("skin")] = 1.0
    weights = vertex_areas(cut.vertices, cut.faces) * skin * (0.2 + face_weight(cut))
    return weights / weights.sum()


def _procrustes(people: np.ndarray, cut: HeadCut, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised Procrustes with scale; the mean is symmetric and keeps the neutral head's place and size."""
    mean = cut.vertices
    for _ in range(3):
        moved = aligned(people, mean, weights)
        mean = aligned(_mirror_average(moved.mean(0), cut)[None], cut.vertices, weights)[0]
        mean = _mirror_average(mean, cut)
    return aligned(people, mean, weights), mean


def _mirror_average(shape: np.ndarray, cut: HeadCut) -> np.ndarray:
    return (shape + shape[cut.mirror] * [-1, 1, 1]) / 2


def _reduce(deviations: np.ndarray, cut: HeadCut) -> np.ndarray:
    """[P, V, 3] → [POPULATION_MODES, V, 3] with (nearly) the same second moments."""
    vectors, _ = _principal(deviations, cut, POPULATION_MODES)
    return vectors


def _principal(columns: np.ndarray, cut: HeadCut, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of Σ c cᵀ in the area-weighted metric: axes scaled by their standard deviation, and variances.

    A fixed sign (largest component positive) makes the result repeatable.
    """
    root = torch.as_tensor(np.sqrt(np.repeat(metric_weights(cut), 3)))
    flat = torch.as_tensor(np.ascontiguousarray(columns.reshape(len(columns), -1)))
    weighted = flat * root
    value, vector = torch.linalg.eigh(weighted @ weighted.T)
    value, vector = value.flip(0)[:count].clamp(min=0), vector.flip(1)[:, :count]
    axes = (vector.T @ flat).numpy()
    peak = np.argmax(np.round(np.abs(axes), 9), axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), peak])[:, None]
    return axes.reshape(-1, *columns.shape[1:]), value.numpy()
