"""The rasteriser for CPUs: one compiled loop over triangles per image, images spread over threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.core.compiled import kernel, run_over_batch
from tokenface.render.fixed_point import (
    DEPTH_FRACTION_BITS,
    DEPTH_STEPS,
    GUARD_PIXELS,
    OFF_GRID,
    SLOPE_LIMIT,
    SUBPIXEL,
    SUBPIXEL_BITS,
)

_HALF = SUBPIXEL // 2
_FRACTION = float(1 << DEPTH_FRACTION_BITS)
_BASE_LIMIT = SLOPE_LIMIT * SUBPIXEL
_FAR = np.int32(2**31 - 1)


def triangle_ids(vertices: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    batch = vertices.shape[0]
    points = vertices.detach().contiguous().numpy()
    triangles = np.ascontiguousarray(faces.numpy(), dtype=np.int64)
    ids = torch.empty(batch, height, width, dtype=torch.int32)
    run_over_batch(_rasterize_images, batch, points, triangles, ids.numpy(), cull_backfaces)
    return ids


@kernel
def _snap(vertices, height, width, grid):
    """`fixed_point.snap_vertices` of one image, the same arithmetic in the same order: [V, 3] → grid [V, 3] int64."""
    nearest, farthest = np.inf, -np.inf
    for v in range(vertices.shape[0]):
        x = (np.float64(vertices[v, 0]) + 1.0) * (width * 0.5)
        y = (np.float64(vertices[v, 1]) + 1.0) * (height * 0.5)
        z = np.float64(vertices[v, 2])
        if abs(x) < GUARD_PIXELS and abs(y) < GUARD_PIXELS and abs(z) < np.inf:
            grid[v, 0] = np.int64(np.floor(x * SUBPIXEL + 0.5))
            grid[v, 1] = np.int64(np.floor(y * SUBPIXEL + 0.5))
            nearest, farthest = min(nearest, z), max(farthest, z)
        else:
            grid[v, 0] = OFF_GRID
    extent = max(farthest - nearest, 1e-30)
    for v in range(vertices.shape[0]):
        if grid[v, 0] > OFF_GRID:
            z = (np.float64(vertices[v, 2]) - nearest) / extent * DEPTH_STEPS
            grid[v, 2] = np.int64(np.floor(z + 0.5))


@kernel
def _rasterize_images(first, last, vertices, faces, ids, cull_backfaces):
    """`fixed_point.triangle_setup` and the loops of `raster_torch`, fused; the arithmetic is the same, in order."""
    height, width = ids.shape[1], ids.shape[2]
    nearest = np.empty((height, width), np.int32)
    grid = np.empty((vertices.shape[1], 3), np.int64)
    for image in range(first, last):
        _snap(vertices[image], height, width, grid)
        ids[image] = -1
        nearest[:] = _FAR
        for triangle in range(faces.shape[0]):
            v0, v1, v2 = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
            xa, ya, za = grid[v0, 0], grid[v0, 1], grid[v0, 2]
            xb, yb, zb = grid[v1, 0], grid[v1, 1], grid[v1, 2]
            xc, yc, zc = grid[v2, 0], grid[v2, 1], grid[v2, 2]
            if xa <= OFF_GRID or xb <= OFF_GRID or xc <= OFF_GRID:
                continue
            left = max((min(xa, xb, xc) - _HALF + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
            right = min((max(xa, xb, xc) - _HALF) >> SUBPIXEL_BITS, width - 1)
            if left > right:
                continue
            top = max((min(ya, yb, yc) - _HALF + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
            bottom = min((max(ya, yb, yc) - _HALF) >> SUBPIXEL_BITS, height - 1)
            if top > bottom:
                continue
            area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            if area == 0 or (cull_backfaces and area > 0):
                continue

            cx, cy = left * SUBPIXEL + _HALF, top * SUBPIXEL + _HALF
            sign = 1 if area > 0 else -1
            dxa, dya = sign * (xc - xb), sign * (yc - yb)
            dxb, dyb = sign * (xa - xc), sign * (ya - yc)
            dxc, dyc = sign * (xb - xa), sign * (yb - ya)
            edge_a = dxa * (cy - yb) - dya * (cx - xb)
            edge_b = dxb * (cy - yc) - dyb * (cx - xc)
            edge_c = dxc * (cy - ya) - dyc * (cx - xa)
            if not (dya < 0 or (dya == 0 and dxa > 0)):
                edge_a -= 1
            if not (dyb < 0 or (dyb == 0 and dxb > 0)):
                edge_b -= 1
            if not (dyc < 0 or (dyc == 0 and dxc > 0)):
                edge_c -= 1
            dxa, dya = dxa * SUBPIXEL, -dya * SUBPIXEL
            dxb, dyb = dxb * SUBPIXEL, -dyb * SUBPIXEL
            dxc, dyc = dxc * SUBPIXEL, -dyc * SUBPIXEL

            divisor = np.float64(area)
            slope_x = np.float64((zb - za) * (yc - ya) - (zc - za) * (yb - ya)) / divisor * _FRACTION
            slope_y = np.float64((zc - za) * (xb - xa) - (zb - za) * (xc - xa)) / divisor * _FRACTION
            base = slope_x * np.float64(cx - xa) + slope_y * np.float64(cy - ya)
            base = base + np.float64(za) * _FRACTION
            depth_row = np.int64(np.floor(min(max(base, -_BASE_LIMIT), _BASE_LIMIT)))
            depth_dx = np.int64(np.floor(min(max(slope_x * SUBPIXEL, -SLOPE_LIMIT), SLOPE_LIMIT)))
            depth_dy = np.int64(np.floor(min(max(slope_y * SUBPIXEL, -SLOPE_LIMIT), SLOPE_LIMIT)))
            depth_min, depth_max = min(za, zb, zc), max(za, zb, zc)

            for row in range(top, bottom + 1):
                ea, eb, ec, depth = edge_a, edge_b, edge_c, depth_row
                entered = False
                for column in range(left, right + 1):
                    if (ea | eb | ec) >= 0:  # no sign bit set: inside all three edges
                        entered = True
                        z = min(max(depth >> DEPTH_FRACTION_BITS, depth_min), depth_max)
                        if z < nearest[row, column]:
                            nearest[row, column] = z
                            ids[image, row, column] = triangle
                    elif entered:
                        break
                    ea += dya
                    eb += dyb
                    ec += dyc
                    depth += depth_dx
                edge_a += dxa
                edge_b += dxb
                edge_c += dxc
                depth_row += depth_dy
