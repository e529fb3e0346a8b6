"""The rasteriser for CPUs: one compiled loop over triangles per image, images spread over threads.

Threads come from a pool of our own rather than from Numba's `prange`: its OpenMP layer aborts a process that is
forked afterwards (data loaders do that) and its built-in layer aborts when two threads call it at once.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

from tokenface.render.fixed_point import (
    DEPTH_FRACTION_BITS,
    OFF_GRID,
    SLOPE_LIMIT,
    SUBPIXEL,
    SUBPIXEL_BITS,
    snap_vertices,
)

_HALF = SUBPIXEL // 2
_FRACTION = float(1 << DEPTH_FRACTION_BITS)
_BASE_LIMIT = SLOPE_LIMIT * SUBPIXEL
_FAR = np.int32(2**31 - 1)

_pool: ThreadPoolExecutor | None = None
_pool_key: tuple[int, int] | None = None


def triangle_ids(vertices: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    grid = snap_vertices(vertices, height, width).numpy()
    triangles = np.ascontiguousarray(faces.numpy(), dtype=np.int64)
    ids = torch.empty(grid.shape[0], height, width, dtype=torch.int32)
    run_over_batch(_rasterize_images, grid.shape[0], grid, triangles, ids.numpy(), cull_backfaces)
    return ids


def run_over_batch(kernel, batch: int, *arguments) -> None:
    """Call a nogil kernel(first, last, *arguments) on slices of the batch, on torch's number of threads."""
    threads = min(batch, torch.get_num_threads())
    if threads <= 1:
        kernel(0, batch, *arguments)
        return
    bounds = [batch * k // threads for k in range(threads + 1)]
    jobs = [_threads(threads).submit(kernel, a, b, *arguments) for a, b in zip(bounds, bounds[1:], strict=False)]
    for job in jobs:
        job.result()


def _threads(count: int) -> ThreadPoolExecutor:
    """The pool of this process: a forked child must not use its parent's threads."""
    global _pool, _pool_key
    if _pool is None or _pool_key is None or _pool_key[0] != os.getpid() or _pool_key[1] < count:
        _pool, _pool_key = ThreadPoolExecutor(count, thread_name_prefix="rasterizer"), (os.getpid(), count)
    return _pool


@njit(nogil=True, cache=True)
def _rasterize_images(first, last, grid, faces, ids, cull_backfaces):
    """`fixed_point.triangle_setup` and the loops of `raster_torch`, fused; the arithmetic is the same, in order."""
    height, width = ids.shape[1], ids.shape[2]
    nearest = np.empty((height, width), np.int32)
    for image in range(first, last):
        ids[image] = -1
        nearest[:] = _FAR
        for triangle in range(faces.shape[0]):
            v0, v1, v2 = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
            xa, ya, za = grid[image, v0, 0], grid[image, v0, 1], grid[image, v0, 2]
            xb, yb, zb = grid[image, v1, 0], grid[image, v1, 1], grid[image, v1, 2]
            xc, yc, zc = grid[image, v2, 0], grid[image, v2, 1], grid[image, v2, 2]
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
