"""Which triangle of the texture layout covers each texel."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt


def cover(uv: np.ndarray, uv_faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For every texel centre of a size × size map (row 0 at v = 1) its triangle and place in it.

    Args:
        uv: [T, 2] in [0, 1].
        uv_faces: [F, 3].
    Returns:
        [R, R] int32 triangles, −1 where no triangle lies; [R, R, 3] float32 barycentrics.
    """
    triangle = np.full((size, size), -1, dtype=np.int32)
    barycentric = np.zeros((size, size, 3), dtype=np.float32)
    corners = np.asarray(uv, dtype=np.float64)[uv_faces] * [size, -size] + [0, size]  # x right, y down
    low = np.floor(corners.min(1) - 0.5).astype(int).clip(0, size)
    high = np.ceil(corners.max(1) + 0.5).astype(int).clip(0, size)
    for number, (a, b, c) in enumerate(corners):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(area) < 1e-12:
            continue
        columns = np.arange(low[number, 0], high[number, 0]) + 0.5
        rows = (np.arange(low[number, 1], high[number, 1]) + 0.5)[:, None]
        u = ((b[0] - columns) * (c[1] - rows) - (c[0] - columns) * (b[1] - rows)) / area
        v = ((c[0] - columns) * (a[1] - rows) - (a[0] - columns) * (c[1] - rows)) / area
        w = 1 - u - v
        inside = (u >= -1e-9) & (v >= -1e-9) & (w >= -1e-9)
        if inside.any():
            block = slice(low[number, 1], high[number, 1]), slice(low[number, 0], high[number, 0])
            triangle[block][inside] = number
            barycentric[block][inside] = np.stack([u, v, w], -1)[inside]
    return triangle, barycentric


def nearest_covered(covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column, [R, R] each, of the nearest covered texel of every texel: padding so that no seam shows."""
    rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return rows, columns
