"""Retargeting of expression and jaw between head models, relative to each one's neutral face."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from tokenface.head.arkit import from_arkit, to_arkit
from tokenface.head.model import HeadModel
from tokenface.inference.expressions import speaks_arkit

RIDGE = 0.003
"""Weight of small expressions against landmark distances (metres over the eyes' distance) where names do not match."""


def retarget(
    source: HeadModel,
    target: HeadModel,
    expression: Tensor,
    jaw: Tensor,
    *,
    source_rest: tuple[Tensor, Tensor] | None = None,
    target_rest: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """What the target does when the source does this.

    Args:
        expression: [B, E] of the source's head model.  jaw: [B, 3] axis-angle, radians.
        source_rest: [E] and [3]: what the source shows when the face is relaxed (the prediction on a neutral photo);
            subtracted.  None: the head model's neutral.
        target_rest: [E'] and [3] of the target, added.
    Returns:
        [B, E'] in the target's range, and [B, 3].
    """
    if source_rest is not None:
        expression, jaw = expression - source_rest[0], jaw - source_rest[1]
    expression, jaw = between_heads(source, target, expression, jaw)
    if target_rest is not None:
        expression, jaw = expression + target_rest[0], jaw + target_rest[1]
    return target.clamp_expression(expression), jaw


def between_heads(source: HeadModel, target: HeadModel, expression: Tensor, jaw: Tensor) -> tuple[Tensor, Tensor]:
    """[B, E] and [B, 3] in the target's words: as they are, by ARKit's names, or by what the landmarks do."""
    if source.expression_names == target.expression_names and source.name == target.name:
        return expression.clone(), jaw.clone()
    if speaks_arkit(source) and speaks_arkit(target):
        return from_arkit(target, to_arkit(source, expression, jaw))
    return by_landmarks(source, target, expression, jaw)


@torch.no_grad()
def by_landmarks(source: HeadModel, target: HeadModel, expression: Tensor, jaw: Tensor) -> tuple[Tensor, Tensor]:
    """The jaw as it is, and the expression whose landmarks move as the source's do.

    Both mean heads; displacements of brows, nose, eyes and lips (51 points), in units of the eyes' distance.
    """
    moved = _displacement(source, expression, jaw)
    by_jaw = _displacement(target, torch.zeros(len(jaw), target.sizes.expression), jaw)
    wanted = (moved - by_jaw).flatten(1).double().numpy()
    basis = _displacement(target, torch.eye(target.sizes.expression), torch.zeros(target.sizes.expression, 3))
    matrix = basis.flatten(1).double().numpy().T
    stacked = np.concatenate([matrix, RIDGE * np.eye(matrix.shape[1])])
    bounds = (-np.inf, np.inf) if target.expression_range is None else target.expression_range
    weights = [lsq_linear(stacked, np.concatenate([row, np.zeros(matrix.shape[1])]), bounds=bounds).x for row in wanted]
    return torch.tensor(np.array(weights), dtype=expression.dtype), jaw.clone()


def _displacement(head: HeadModel, expression: Tensor, jaw: Tensor) -> Tensor:
    """[B, 51, 3] motion of landmarks 17–67 from the neutral mean head, over the distance of the outer eye corners."""
    neutral = head.landmarks68(head().vertices)[0]
    shown = head.landmarks68(head(expression=expression, jaw=jaw).vertices)
    return (shown - neutral)[:, 17:] / (neutral[45] - neutral[36]).norm()
