"""A face as if seen from the front, relaxed: the crop's colours on the answered surface, on a grid over the mean head.

Whatever the answer gets right (pose, expression, framing) is gone from this picture; where a brow or a nostril is not
where the grid has it, the answered person is another than the photographed one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.network.components import FaceParameters
from tokenface.render.rasterizer import rasterize

GRID = 96
CENTRE, HALF_WIDTH = (0.0, -0.012), 0.1
"""Metres of head space: the square that the grid spans on the mean head."""


class FrontView:
    """The grid of one head model.

    covered: [GRID · GRID] bool, cells in which the mean head is seen.
    """

    def __init__(self, head: HeadModel):
        centre = head.template.new_tensor([*CENTRE, 0.0])
        ndc = (head.template - centre) / HALF_WIDTH * head.template.new_tensor([1.0, -1.0, -1.0])
        fragments = rasterize(ndc[None], head.faces, GRID, GRID)
        self.covered = fragments.mask.flatten()
        self.barycentrics = fragments.pixel_barycentrics
        corners = head.faces[fragments.triangle_ids.flatten()[fragments.pixels].long()]
        used, self.corners = corners.unique(return_inverse=True)
        self.part = head.restricted_to(used)

    def __call__(self, images: Tensor, parameters: FaceParameters) -> Tensor:
        """What the crops show on their answered surfaces.

        Args:
            images: [B, 3, S, S] RGB in [0, 1].  parameters: the answers for them, of B faces.
        Returns:
            [B, 4, GRID, GRID]: colour − 0.5, and the cosine between the surface's normal and the viewer; 0 where the
            mean head does not cover the grid.
        """
        camera = Camera.from_vector(parameters.camera)
        vertices = self.part(parameters.shape, parameters.expression, parameters.jaw).vertices
        corners = vertices[:, self.corners]  # [B, P, 3, 3]
        places = camera.project((corners * self.barycentrics[None, :, :, None]).sum(2))[..., :2]
        colours = F.grid_sample(images, places[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        first, second = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
        normals = F.normalize(torch.linalg.cross(first, second), dim=-1)
        facing = camera.rotate(normals)[..., 2]
        view = images.new_zeros(len(images), 4, GRID * GRID)
        view[:, :, self.covered] = torch.cat([colours - 0.5, facing[:, None]], dim=1)
        return view.unflatten(-1, (GRID, GRID))
