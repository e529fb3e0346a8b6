"""Leakage between components: how a true change of one component moves the predictions of the others.

Pairs of rendered pictures of the same person, head, light and place, in which one component is another one's. The truth
of both is known, so whatever else the predictions say of the difference is leakage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.sampling import sample_rotations
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.rendered_measures import PLAIN_POSES
from tokenface.evaluation.warp_response import ResponseTable, Spread
from tokenface.head.model import HeadModel
from tokenface.parameters import COMPONENTS, FaceParameters

CHANGED = ("shape", "expression", "jaw", "camera", "texture")
"""Components that a rendered picture can change alone; of the camera the rotation."""
BLOCK = 32


@dataclass(frozen=True)
class ComponentPairs:
    """image: [(1 + C) · N, 3, S, S], first N pictures as they are, then N with each component of `changed` exchanged.
    truth: of all of them."""

    image: Tensor
    truth: FaceParameters
    changed: tuple[str, ...]


def component_pairs(head: HeadModel, size: int, people: int, seed: int) -> ComponentPairs:
    """Plain pictures of `people` people (no occluders, within 45° of the front) and of their changes."""
    faces = SyntheticFaces(head, size)
    sizes = head.sizes
    changed = tuple(name for name in CHANGED if name in ("camera", "jaw") or sizes[name])
    columns: dict[str, list] = {name: [] for name in ("", *changed)}
    for first in range(0, people, BLOCK):
        count, own = min(BLOCK, people - first), seed + first
        draws = [Draw.seeded(own + 7919 * k, head.template.device) for k in (1, 2)]
        rotation, other_rotation = (sample_rotations(draw, count, PLAIN_POSES) for draw in draws)
        others = faces.expressions.sample(draws[1], count)
        given = {
            "shape": draws[1].normal(count, sizes.shape),
            "expression": others.weights,
            "jaw": others.jaw,
            "texture": draws[1].normal(count, sizes.texture),
        }
        for name in columns:
            exchanged = {key: value if key == name else None for key, value in given.items()}
            batch = faces.sample(
                count,
                own,
                shape=exchanged["shape"],
                expression=exchanged["expression"],
                jaw=exchanged["jaw"],
                texture=exchanged["texture"],
                rotation=other_rotation if name == "camera" else rotation,
                plain=True,
            )
            columns[name].append((batch.image, batch.parameters))
    parts = [part for column in columns.values() for part in column]
    truth = FaceParameters.cat([parameters for _, parameters in parts])
    return ComponentPairs(torch.cat([image for image, _ in parts]), truth, changed)


def component_leakage(
    head: HeadModel, predict: Callable[[Tensor], FaceParameters], pairs: ComponentPairs
) -> dict[str, float]:
    """Figures of a network.

    Args:
        predict: pictures [B, 3, S, S], or what stands for them, → parameters.
    Returns:
        "CHANGED → COMPONENT": root mean square movement of a component's prediction, what truly moved taken out, over
        the movement of the changed one's, both in units of the population's spread.  "CHANGED own": that movement over
        the true one.  "leak": mean of all arrows; "leak of expression", "leak of shape": of theirs.
    """
    count = len(pairs.truth) // (1 + len(pairs.changed))
    predicted = predict(pairs.image)
    table = ResponseTable(head, Spread.of(pairs.truth))
    figures: dict[str, float] = {}
    arrows: dict[str, list[float]] = {name: [] for name in pairs.changed}
    for k, name in enumerate(pairs.changed, start=1):
        rows = slice(k * count, (k + 1) * count)
        said, true = (_difference(p[rows], p[:count]) for p in (predicted, pairs.truth))
        excess = _difference(said, true)
        own = _root(table.squares(said)[name])
        figures[f"{name} own"] = own / max(_root(table.squares(true)[name]), 1e-12)
        moved = {other: _root(square) for other, square in table.squares(excess).items()}
        for other in COMPONENTS:
            if other != name and other in moved:
                figures[f"{name} → {other}"] = moved[other] / max(own, 1e-12)
                arrows[name].append(moved[other] / max(own, 1e-12))
    figures["leak"] = float(np.mean([value for values in arrows.values() for value in values]))
    for name in ("expression", "shape"):
        figures[f"leak of {name}"] = float(np.mean(arrows[name]))
    return figures


def _difference(after: FaceParameters, before: FaceParameters) -> FaceParameters:
    return FaceParameters(**{name: value - getattr(before, name) for name, value in after.items()})


def _root(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean()))
