"""Bias on photos: what the predictions on all photos share although the people and their faces differ.

People's mean shape is the prior's, and most actions are at rest on most photos. So the mean shape over the people, and
the low quantile of each action and of the jaw, are bias: self-training keeps them out of its pseudo-labels, and the end
of a run takes them out of the prediction heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters


class PhotoBias(NamedTuple):
    """shape: [S] mean over the people.  expression: [E] low quantiles, at least 0.  jaw: low quantile of the opening,
    radians, at least 0."""

    shape: Tensor
    expression: Tensor
    jaw: Tensor

    @staticmethod
    def of(predicted: FaceParameters, person: Tensor, quantile: float) -> PhotoBias:
        """Args: predicted: of N photos.  person: [N] small numbers; everybody counts once in the mean shape."""
        weight = 1.0 / torch.bincount(person)[person]
        return PhotoBias(
            (predicted.shape * weight[:, None]).sum(0) / weight.sum(),
            torch.quantile(predicted.expression, quantile, dim=0).clamp_min(0),
            torch.quantile(predicted.jaw[:, 0], quantile).clamp_min(0),
        )

    def symmetric(self, expression_mirror: Tensor) -> PhotoBias:
        """Both sides' mean of the actions. expression_mirror: [E] index of each action's mirror image."""
        return self._replace(expression=(self.expression + self.expression[expression_mirror]) / 2)

    @torch.no_grad()
    def take_out(self, network: TokenFace) -> None:
        """Change the biases of the network's prediction heads so that it predicts that much less on every picture."""
        heads = network.heads
        jaw = torch.zeros(network.sizes.jaw)
        jaw[0] = self.jaw
        for name, bias in (("shape", self.shape), ("expression", self.expression), ("jaw", jaw)):
            scale = getattr(heads, f"{name}_scale")
            heads.fc[name].get_parameter("bias").sub_(bias.to(scale) / scale)
