"""The rasteriser in plain torch: the readable reference, and the fallback on devices without a kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.render.fixed_point import DEPTH_FRACTION_BITS, snap_vertices, triangle_setup

EMPTY = torch.iinfo(torch.int64).max


def triangle_ids(vertices: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    setup = triangle_setup(snap_vertices(vertices, height, width), faces, height, width, cull_backfaces)
    keys = torch.full((vertices.shape[0], height * width), EMPTY, dtype=torch.int64, device=vertices.device)
    for image in range(vertices.shape[0]):
        # every pixel of every bounding box is a candidate: (triangle, column i, row j)
        counts = setup.width[image] * setup.height[image]
        triangle = torch.repeat_interleave(counts)
        within = torch.arange(len(triangle), device=counts.device) - (counts.cumsum(0) - counts)[triangle]
        box_width = setup.width[image, triangle]
        i, j = within % box_width, within // box_width

        inside = torch.ones_like(triangle, dtype=torch.bool)
        for edge, column_step, row_step in zip(setup.edges, setup.column_steps, setup.row_steps, strict=True):
            inside &= edge[image, triangle] + column_step[image, triangle] * i + row_step[image, triangle] * j >= 0
        triangle, i, j = triangle[inside], i[inside], j[inside]

        depth = setup.depth[image, triangle]
        depth = depth + setup.depth_column[image, triangle] * i + setup.depth_row[image, triangle] * j
        depth = (depth >> DEPTH_FRACTION_BITS).clamp(setup.depth_min[image, triangle], setup.depth_max[image, triangle])
        pixel = (setup.top[image, triangle] + j) * width + setup.left[image, triangle] + i
        keys[image].scatter_reduce_(0, pixel, (depth << 32) | triangle, "amin")  # nearest, then lowest id
    return ids_from_keys(keys).view(-1, height, width)


def ids_from_keys(keys: Tensor) -> Tensor:
    """The lower 32 bits of `depth << 32 | triangle`, int32; −1 where nothing was written."""
    return torch.where(keys == EMPTY, -1, keys & 0xFFFFFFFF).int()
