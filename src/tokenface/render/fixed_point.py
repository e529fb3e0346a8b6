"""Fixed-point vertex snapping, so that all back ends decide coverage and order in exact integers.

Graphics hardware does the same. With float edge functions two back ends round differently and disagree on pixels
near an edge; with integers a shared edge is hit by exactly one of its two triangles, on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.render.raster_kernels import (
    DEPTH_FRACTION_BITS,
    DEPTH_STEPS,
    GUARD_PIXELS,
    OFF_GRID,
    SLOPE_LIMIT,
    SUBPIXEL,
    SUBPIXEL_BITS,
)


@dataclass(frozen=True)
class TriangleSetup:
    """Per-triangle constants in grid units; every tensor is [B, F] int64.

    A pixel (column, row) is covered when all three `edge + column_step·i + row_step·j >= 0`, where (i, j) counts
    from the triangle's own first pixel; its depth is `depth + depth_column·i + depth_row·j`, shifted right by
    DEPTH_FRACTION_BITS and clamped to [depth_min, depth_max]. The tie rule is already in the edge values.
    """

    left: Tensor
    top: Tensor
    width: Tensor  # pixels of the bounding box; 0 when the triangle cannot be seen
    height: Tensor
    edges: tuple[Tensor, Tensor, Tensor]
    column_steps: tuple[Tensor, Tensor, Tensor]
    row_steps: tuple[Tensor, Tensor, Tensor]
    depth: Tensor
    depth_column: Tensor
    depth_row: Tensor
    depth_min: Tensor
    depth_max: Tensor


def snap_vertices(vertices: Tensor, height: int, width: int) -> Tensor:
    """Crop NDC to the grid.

    Args:
        vertices: [B, V, 3], x right, y down in [-1, 1], z depth in any unit.
    Returns:
        [B, V, 3] int64: x and y in 1/4096 pixel, z in [0, 2³⁰] between the nearest and farthest vertex of the image.
    """
    v = vertices.detach().double()
    pixels = torch.stack([(v[..., 0] + 1) * (width * 0.5), (v[..., 1] + 1) * (height * 0.5)], dim=-1)
    good = torch.isfinite(v).all(-1) & (pixels.abs() < GUARD_PIXELS).all(-1)
    z = v[..., 2]
    nearest = torch.where(good, z, torch.inf).amin(dim=1, keepdim=True)
    farthest = torch.where(good, z, -torch.inf).amax(dim=1, keepdim=True)
    z = (z - nearest) / (farthest - nearest).clamp(min=1e-30) * DEPTH_STEPS
    grid = torch.cat([torch.floor(pixels * SUBPIXEL + 0.5), torch.floor(z + 0.5)[..., None]], dim=-1)
    return torch.where(good[..., None], grid, float(OFF_GRID)).long()


def triangle_setup(grid: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> TriangleSetup:
    """Edge functions, depth plane and bounding box of every triangle; float64 only where the order is fixed.

    Args:
        grid: [B, V, 3] int64 of `snap_vertices`.
        faces: [F, 3] int64.
    """
    corners = grid[:, faces.flatten()].view(grid.shape[0], -1, 3, 3)
    x, y, z = corners.unbind(-1)
    area = (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0]) - (y[..., 1] - y[..., 0]) * (x[..., 2] - x[..., 0])
    seen = (area != 0) & (x > OFF_GRID).all(-1)
    if cull_backfaces:  # y points down: a counter-clockwise (front) triangle has negative area here
        seen = seen & (area < 0)

    half = SUBPIXEL // 2  # pixel centre i lies at i·SUBPIXEL + half
    left = ((x.amin(-1) - half + SUBPIXEL - 1) >> SUBPIXEL_BITS).clamp(min=0)
    top = ((y.amin(-1) - half + SUBPIXEL - 1) >> SUBPIXEL_BITS).clamp(min=0)
    right = ((x.amax(-1) - half) >> SUBPIXEL_BITS).clamp(max=width - 1)
    bottom = ((y.amax(-1) - half) >> SUBPIXEL_BITS).clamp(max=height - 1)
    box_width, box_height = (right - left + 1).clamp(min=0), (bottom - top + 1).clamp(min=0)
    seen = seen & (box_width > 0) & (box_height > 0)
    centre_x, centre_y = left * SUBPIXEL + half, top * SUBPIXEL + half

    sign = torch.where(area < 0, -1, 1)
    edges, column_steps, row_steps = [], [], []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        dx, dy = sign * (x[..., b] - x[..., a]), sign * (y[..., b] - y[..., a])
        inclusive = (dy < 0) | ((dy == 0) & (dx > 0))  # left and top edges own their points
        edge = dx * (centre_y - y[..., a]) - dy * (centre_x - x[..., a])
        edges.append(torch.where(inclusive, edge, edge - 1))
        column_steps.append(-dy * SUBPIXEL)
        row_steps.append(dx * SUBPIXEL)

    z1, z2 = z[..., 1] - z[..., 0], z[..., 2] - z[..., 0]
    x1, x2 = x[..., 1] - x[..., 0], x[..., 2] - x[..., 0]
    y1, y2 = y[..., 1] - y[..., 0], y[..., 2] - y[..., 0]
    divisor = torch.where(area == 0, 1, area).double()
    fraction = float(1 << DEPTH_FRACTION_BITS)
    slope_x = (z1 * y2 - z2 * y1).double() / divisor * fraction  # per grid step
    slope_y = (z2 * x1 - z1 * x2).double() / divisor * fraction
    depth = slope_x * (centre_x - x[..., 0]).double() + slope_y * (centre_y - y[..., 0]).double()
    depth = depth + z[..., 0].double() * fraction
    limit = SLOPE_LIMIT * SUBPIXEL
    return TriangleSetup(
        left=left,
        top=top,
        width=torch.where(seen, box_width, 0),
        height=torch.where(seen, box_height, 0),
        edges=(edges[0], edges[1], edges[2]),
        column_steps=(column_steps[0], column_steps[1], column_steps[2]),
        row_steps=(row_steps[0], row_steps[1], row_steps[2]),
        depth=torch.floor(depth.clamp(-limit, limit)).long(),
        depth_column=torch.floor((slope_x * SUBPIXEL).clamp(-SLOPE_LIMIT, SLOPE_LIMIT)).long(),
        depth_row=torch.floor((slope_y * SUBPIXEL).clamp(-SLOPE_LIMIT, SLOPE_LIMIT)).long(),
        depth_min=z.amin(-1),
        depth_max=z.amax(-1),
    )
