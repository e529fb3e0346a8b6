"""Landmark error without the annotators' bias.

Annotators' points are not the mesh's points. Their difference is modelled as an offset of each point in the upright
face, linear in the sine of the yaw and mirror-symmetric, and learned on other people's photos from the predictions
under test, so that it does not favour a network that has learned the bias over one that has not (label adaptation of
Wood et al. 2021, as a measure).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry.landmarks import MIRROR68

FOLDS = 2


def without_label_bias(
    predicted: Tensor, truth: Tensor, yaw: Tensor, roll: Tensor, people: Sequence[str], seed: int = 0
) -> Tensor:
    """Predictions [N, 68, 2] moved to where these annotators would have put the points.

    Args:
        predicted, truth: crop NDC.  yaw, roll: [N] radians of the predicted camera.  people: [N]; a photo's offset is
            learned on the other fold's people.
    """
    residual, turn, size = _upright(predicted, truth, roll)
    names, person = np.unique(np.asarray(people), return_inverse=True)
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(names))[person] % FOLDS)
    offset = torch.zeros_like(residual)
    for k in range(FOLDS):
        own = fold == k
        offset[own] = _at(fit_label_bias(residual[~own], yaw[~own]), yaw[own])
    return predicted + size[:, None, None] * (offset @ turn)


def fit_label_bias(residual: Tensor, yaw: Tensor) -> Tensor:
    """Least squares for `a + b sin(yaw)` of each point, with the mirrored photos as well.

    Args:
        residual: [N, 68, 2] truth minus prediction in the upright face, shares of the face's size.
    Returns:
        [2, 68, 2]: a and b, mirror-symmetric.
    """
    mirrored = residual[:, list(MIRROR68)] * residual.new_tensor([-1.0, 1.0])
    both = torch.cat([residual, mirrored])
    design = torch.stack([torch.ones(len(both)), torch.cat([yaw, -yaw]).sin()], dim=1).to(both)
    return torch.linalg.lstsq(design, both.flatten(1)).solution.view(2, 68, 2)


def _at(bias: Tensor, yaw: Tensor) -> Tensor:
    return bias[0] + bias[1] * yaw.sin()[:, None, None].to(bias)


def _upright(predicted: Tensor, truth: Tensor, roll: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals with the head's roll undone over the size of the labels' box; the turn [N, 2, 2] that carries row
    vectors back; the sizes [N]."""
    cos, sin = roll.cos(), roll.sin()
    # roll is anticlockwise as seen, and crop NDC has y down: upright (x, y) stands on the picture at turn · (x, y)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    size = (truth.amax(1) - truth.amin(1)).prod(-1).sqrt()
    return (truth - predicted) @ turn.transpose(1, 2) / size[:, None, None], turn, size
