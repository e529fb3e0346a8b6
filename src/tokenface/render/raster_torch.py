"""Torch back end: rasteriser (readable reference) and attributes of covered pixels, on any device and float type."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.render.fixed_point import snap_vertices, triangle_setup
from tokenface.render.raster_kernels import DEPTH_FRACTION_BITS, MIN_AREA

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


def barycentrics(vertices: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of the three triangles that a pixel centre makes with the edges, and the depth there.

    Args:
        vertices: [B, V, 3] crop NDC.  faces: [F, 3] int64.
        ids: [B, H, W] int32 nearest triangles.  pixels: [P] int64, flat indices of the covered ones.
    Returns:
        [P, 3] that sum to 1, and [P].
    """
    _, height, width = ids.shape
    image, within = pixels // (height * width), pixels % (height * width)
    rows = faces[ids.view(-1)[pixels].long()] + (image * vertices.shape[1])[:, None]
    corners = _rows(vertices.reshape(-1, 3), rows)
    # relative to the pixel centre and in pixels, which keeps the small differences exact in float32
    x = (corners[..., 0] + (1 - (2 * (within % width) + 1) / width)[:, None]) * (width / 2)
    y = (corners[..., 1] + (1 - (2 * (within // width) + 1) / height)[:, None]) * (height / 2)
    x0, x1, x2 = x.unbind(1)
    y0, y1, y2 = y.unbind(1)
    areas = torch.stack([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0], dim=1)
    total = areas.sum(dim=1, keepdim=True)
    edge_on = total.abs() < MIN_AREA
    areas = torch.where(edge_on, areas.detach(), areas)
    total = torch.where(edge_on, total.detach(), total)
    # The ids come from vertices on the 1/4096-pixel grid: a centre may lie outside by that much.
    weights = (areas / torch.where(total == 0, 1, total)).clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return weights, (weights * corners[..., 2]).sum(dim=1)


def interpolate(attributes: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """[V, C] or [B, V, C] attributes → [B, H, W, C], zeros where nothing is covered."""
    rows = faces[ids.view(-1)[pixels].long()]
    if attributes.dim() == 3:
        image = pixels // (ids.shape[1] * ids.shape[2])
        rows = rows + (image * attributes.shape[1])[:, None]
    channels = attributes.shape[-1]
    values = (_rows(attributes.reshape(-1, channels), rows) * weights.to(attributes.dtype)[..., None]).sum(dim=1)
    return spread(values, ids, pixels)


def spread(values: Tensor, ids: Tensor, pixels: Tensor) -> Tensor:
    """Values of the covered pixels [P, C] laid out as images [B, H, W, C], zeros elsewhere."""
    images = values.new_zeros(ids.numel(), values.shape[1])
    return images.index_copy(0, pixels, values).view(*ids.shape, values.shape[1])


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """[N, C] at [P, 3] → [P, 3, C]. `index_select`, whose gradient is an atomic add where indexing would sort."""
    return table.index_select(0, index.view(-1)).view(*index.shape, -1)
