"""Expression corrections from landmark labels: the mean head's landmark distances fitted to the labelled ones.

Self-training has no other witness that a brow is up. Per photo, with J the change of the distances by each action,
Σ the actions' prior variances and R the labels' errors, the most probable change of the expression is
`Δψ = Σ Jᵀ (J Σ Jᵀ + R)⁻¹ (labelled − predicted)`, of deviations from each person's mean (`evaluation.photo_movement`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.evaluation.photo_movement import DISTANCES, deviations, distances
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

LABEL_ERROR = 0.015
"""Standard deviation of a labelled distance, in distances of the eyes."""
STEP = 0.5
"""Weight at which an action's effect is measured."""


class LabelledMovement:
    """Corrections of photos' expressions by their labels.

    Args:
        head: on the CPU.  spread: [E] prior standard deviation of the actions on photos.
    """

    def __init__(self, head: HeadModel, spread: Tensor):
        self.head = head
        effects = self._effects()
        carried = spread.square()[:, None] * effects  # Σ Jᵀ, [E, K]
        error = LABEL_ERROR**2 * torch.eye(len(DISTANCES))
        self.gain = torch.linalg.solve(effects.T @ carried + error, carried, left=False)
        """[E, K]."""

    @torch.no_grad()
    def correction(self, predicted: FaceParameters, labels: Tensor, person: Tensor) -> Tensor:
        """[N, E] to be added to the expressions of N photos; 0 where the labels cannot be measured.

        Args:
            labels: [N, 68, 2] crop NDC.  person: [N] small numbers.
        """
        found = deviations(self.head, predicted, labels, person)
        change = torch.zeros_like(predicted.expression)
        change[found.rows] = (found.labelled - found.predicted) @ self.gain.T
        return change

    @torch.no_grad()
    def _effects(self) -> Tensor:
        """[E, K] change of the distances per weight of each action, from the front."""
        actions = torch.cat([torch.zeros(1, self.head.sizes.expression), STEP * torch.eye(self.head.sizes.expression)])
        points = self.head.landmarks68(self.head(expression=actions).vertices)[..., :2] * torch.tensor([1.0, -1.0])
        measured = distances(points)
        return (measured[1:] - measured[0]) / STEP
