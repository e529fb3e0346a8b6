"""The rasteriser for arrays, without torch or gradients: `rasterizer`'s rules and numbers, by the same loops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokenface.core.compiled import run_over_batch
from tokenface.render import raster_kernels as kernels


@dataclass(frozen=True, eq=False)
class ArrayFragments:
    """Fragments of B images; P is the number of covered pixels of the whole batch.

    triangle_ids: [B, H, W] int32, −1 where nothing is hit.  pixels: [P] int64, flat indices into [B·H·W], ascending.
    pixel_barycentrics: [P, 3] float32.  pixel_depth: [P] float32, in the unit of the vertices' z.
    """

    triangle_ids: np.ndarray
    pixels: np.ndarray
    pixel_barycentrics: np.ndarray
    pixel_depth: np.ndarray

    @cached_property
    def mask(self) -> np.ndarray:
        """[B, H, W] bool."""
        return self.triangle_ids >= 0

    @property
    def pixel_triangles(self) -> np.ndarray:
        """[P] int32, the triangle of each covered pixel."""
        return self.triangle_ids.reshape(-1)[self.pixels]

    def depth(self, outside: float) -> np.ndarray:
        """[B, H, W] float32, `outside` where nothing is hit."""
        image = np.full(self.triangle_ids.size, outside, np.float32)
        image[self.pixels] = self.pixel_depth
        return image.reshape(self.triangle_ids.shape)


def rasterize_arrays(vertices: np.ndarray, faces: np.ndarray, height: int, width: int) -> ArrayFragments:
    """`rasterizer.rasterize`, both sides of every triangle.

    Args:
        vertices: [B, V, 3] crop NDC: x right, y down in [-1, 1], z depth, smaller is nearer.  faces: [F, 3].
        height, width: of the images, pixels.
    """
    points = np.ascontiguousarray(vertices, np.float32)
    triangles = np.ascontiguousarray(faces, np.int64)
    ids = triangle_ids(points, triangles, height, width)
    pixels = np.flatnonzero(ids.reshape(-1) >= 0)
    bounds = image_bounds(ids.shape, pixels)
    weights, depth = np.empty((len(pixels), 3), np.float32), np.empty(len(pixels), np.float32)
    run_over_batch(kernels.barycentrics_forward, len(ids), points, triangles, ids, bounds, weights, depth)
    return ArrayFragments(ids, pixels, weights, depth)


def triangle_ids(
    vertices: np.ndarray, faces: np.ndarray, height: int, width: int, cull_backfaces: bool = False
) -> np.ndarray:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    points = np.ascontiguousarray(vertices, np.float32)
    ids = np.empty((len(points), height, width), np.int32)
    triangles = np.ascontiguousarray(faces, np.int64)
    run_over_batch(kernels.rasterize_images, len(points), points, triangles, ids, cull_backfaces)
    return ids


def at_pixels(fragments: ArrayFragments, attributes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Attributes of the covered pixels: [V, C] or [B, V, C], faces [F, 3] into them → [P, C] float32."""
    rows = np.asarray(faces, np.int64)[fragments.pixel_triangles]
    if attributes.ndim == 3:
        image = fragments.pixels // (fragments.triangle_ids.shape[1] * fragments.triangle_ids.shape[2])
        rows += (image * attributes.shape[1])[:, None]
    table, weights = np.asarray(attributes, np.float32).reshape(-1, attributes.shape[-1]), fragments.pixel_barycentrics
    values = weights[:, :1] * table[rows[:, 0]]
    for corner in (1, 2):  # one after the other: all at once take three times the memory
        values += weights[:, corner, None] * table[rows[:, corner]]
    return values


def image_bounds(shape: tuple[int, ...], pixels: np.ndarray) -> np.ndarray:
    """[B + 1]: where each image begins in the ascending list of covered pixels. shape: B, H, W."""
    return np.searchsorted(pixels, np.arange(shape[0] + 1) * (shape[1] * shape[2]))
