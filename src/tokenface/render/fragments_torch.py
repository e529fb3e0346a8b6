"""Barycentric coordinates, depth and attributes of covered pixels in plain torch: any device, any float type."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_AREA = 1e-3
"""Pixels², doubled area: a triangle seen more edge-on gets no gradient to x and y, which would grow as 1 / area."""


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
