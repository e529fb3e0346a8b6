"""Label adaptation: where a data set's annotators put the 68 points, beside the mesh's own (Wood et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenface.geometry.camera import Camera
from tokenface.geometry.landmarks import MIRROR68

TERMS = 3
"""Of the offset's dependence on yaw: constant, sin yaw, 1 − cos yaw."""


class LabelOffsets(nn.Module):
    """An offset per data source and point, in the upright frame of the face, mirror-symmetric, a function of yaw.

    Added to the projected points before they meet labels, it absorbs the bias of the annotators (lip corners,
    jaw line, brows), which shape and expression would otherwise imitate with a constant grimace.

    Args:
        sources: names of the data sources; one set of offsets each.
    """

    mirror_sign: Tensor
    mirror_points: Tensor

    def __init__(self, sources: tuple[str, ...]):
        super().__init__()
        self.sources = sources
        self.offsets = nn.Parameter(torch.zeros(len(sources), TERMS, 68, 2))  # millimetres at the face
        sign = torch.tensor([-1.0, 1.0]) * torch.tensor([1.0, -1.0, 1.0])[:, None, None]  # sin yaw is odd
        self.register_buffer("mirror_sign", sign, persistent=False)
        self.register_buffer("mirror_points", torch.tensor(MIRROR68), persistent=False)

    def coefficients(self) -> Tensor:
        """[sources, 3, 68, 2] of constant, sin yaw and 1 − cos yaw; millimetres, x right and y down."""
        return 0.5 * (self.offsets + self.offsets.index_select(2, self.mirror_points) * self.mirror_sign)

    def forward(self, points: Tensor, camera: Camera, source: str) -> Tensor:
        """Projected mesh points [B, 68, 2], crop NDC, to where that source's annotators put them.

        Raises:
            KeyError: a source without offsets.
        """
        if source not in self.sources:
            raise KeyError(f"no label offsets for '{source}'; there are: {', '.join(self.sources) or 'none'}")
        return adapted(points, camera, self.coefficients()[self.sources.index(source)])


def adapted(points: Tensor, camera: Camera, coefficients: Tensor) -> Tensor:
    """Projected points [B, 68, 2], crop NDC, moved by one source's offsets [3, 68, 2] (`LabelOffsets.coefficients`)."""
    yaw, _, roll = camera.angles().detach().unbind(-1)
    terms = torch.stack([torch.ones_like(yaw), torch.sin(yaw), 1 - torch.cos(yaw)], dim=-1)
    upright = torch.einsum("bt,tnc->bnc", terms, coefficients) * 1e-3 * camera.scale.detach()[:, None, None]
    cos, sin = torch.cos(roll)[:, None], torch.sin(roll)[:, None]  # anticlockwise in the picture, y down
    x, y = upright.unbind(-1)
    return points + torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
