"""Z-buffer rasteriser: one interface over back ends that agree pixel by pixel, differentiable inside the triangles.

A back end only answers which triangle is nearest at each pixel centre. Barycentric coordinates and depth are then
computed from those ids in closed form by torch, so gradients reach vertices, attributes and light by autograd and
are the same whichever back end ran. Coverage itself (the silhouette) has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from tokenface.render import raster_numba, raster_torch
from tokenface.render.gather import gather_rows

Backend = Literal["auto", "numba", "triton", "torch"]

_MIN_AREA = 1e-3
"""Pixels²: a triangle seen more edge-on gets no gradient to its x and y, which would grow without bound (1 / area)."""


@dataclass(frozen=True)
class Fragments:
    """What covers the pixels of B images; P is the number of covered pixels of the whole batch.

    triangle_ids: [B, H, W] int32, −1 where nothing is hit.  pixels: [P] int64, flat indices into [B·H·W], ascending.
    pixel_barycentrics: [P, 3], differentiable.  pixel_depth: [P], differentiable, in the unit of the vertices' z.
    """

    triangle_ids: Tensor
    pixels: Tensor
    pixel_barycentrics: Tensor
    pixel_depth: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """[B, H, W] bool."""
        return self.triangle_ids >= 0

    @cached_property
    def barycentrics(self) -> Tensor:
        """[B, H, W, 3]; zeros outside the mask, where no attribute is defined."""
        return self.spread(self.pixel_barycentrics)

    @cached_property
    def depth(self) -> Tensor:
        """[B, H, W]; 0 outside the mask."""
        return self.spread(self.pixel_depth[:, None])[..., 0]

    @property
    def pixel_triangles(self) -> Tensor:
        """[P] int64, the triangle of every covered pixel."""
        return self.triangle_ids.view(-1)[self.pixels].long()

    @property
    def pixel_images(self) -> Tensor:
        """[P] int64, the image of the batch that every covered pixel belongs to."""
        return self.pixels // (self.triangle_ids.shape[1] * self.triangle_ids.shape[2])

    def spread(self, values: Tensor) -> Tensor:
        """Values of the covered pixels [P, C] laid out as images [B, H, W, C], zeros elsewhere."""
        images = values.new_zeros(self.triangle_ids.numel(), values.shape[1])
        return images.index_copy(0, self.pixels, values).view(*self.triangle_ids.shape, values.shape[1])


def rasterize(
    vertices: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    backend: Backend = "auto",
    *,
    cull_backfaces: bool = False,
) -> Fragments:
    """The nearest triangle at every pixel centre, with barycentric coordinates and depth.

    Pixel centre i of n lies at NDC `(2i + 1)/n − 1`. A centre on a shared edge belongs to exactly one of the two
    triangles (top-left rule); of triangles at equal depth the one with the lower index wins. Triangles that are
    degenerate, not finite, or more than 2¹⁴ pixels outside the picture are not drawn.

    Args:
        vertices: [B, V, 3] crop NDC of `Camera.project`: x right, y down in [-1, 1], z depth, smaller is nearer.
        faces: [F, 3] integer indices, counter-clockwise seen from outside.
        height, width: of the images, pixels.
        backend: "auto" is numba on CPU, triton on CUDA where it is installed, torch elsewhere.
        cull_backfaces: leave out triangles seen from behind.
    Raises:
        ValueError: shapes that do not fit, or a back end that cannot work on the vertices' device.
    """
    if vertices.dim() != 3 or vertices.shape[2] != 3:
        raise ValueError(f"vertices are [B, V, 3] in crop NDC, got {tuple(vertices.shape)}")
    if faces.dim() != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces are [F, 3] vertex indices, got {tuple(faces.shape)}")
    if height < 1 or width < 1:
        raise ValueError(f"picture size must be positive, got {height} × {width}")
    faces = faces.to(vertices.device, torch.int64)
    with torch.no_grad():
        ids = _triangle_ids(vertices.detach().float(), faces, height, width, backend, cull_backfaces)
    pixels = (ids.view(-1) >= 0).nonzero().view(-1)
    barycentrics, depth = _barycentrics(vertices, faces, ids, pixels)
    return Fragments(ids, pixels, barycentrics, depth)


def interpolate(fragments: Fragments, attributes: Tensor, faces: Tensor) -> Tensor:
    """Attributes at every pixel; zeros outside the mask.

    Args:
        attributes: [V, C] shared by the batch, or [B, V, C].
        faces: [F, 3] indices into the attributes; `uv_faces` for texture coordinates.
    Returns:
        [B, H, W, C].
    """
    return fragments.spread(interpolate_pixels(fragments, attributes, faces))


def interpolate_pixels(fragments: Fragments, attributes: Tensor, faces: Tensor) -> Tensor:
    """`interpolate` at the covered pixels alone: [P, C]."""
    rows = faces.to(attributes.device, torch.int64)[fragments.pixel_triangles]
    if attributes.dim() == 3:
        rows = rows + (fragments.pixel_images * attributes.shape[1])[:, None]
    corners = gather_rows(attributes.reshape(-1, attributes.shape[-1]), rows.view(-1)).view(len(rows), 3, -1)
    weights = fragments.pixel_barycentrics.to(attributes.dtype)
    return (corners * weights[..., None]).sum(dim=1)


def _triangle_ids(
    vertices: Tensor, faces: Tensor, height: int, width: int, backend: Backend, cull_backfaces: bool
) -> Tensor:
    on_cpu = vertices.device.type == "cpu"
    if backend == "auto":
        backend = "numba" if on_cpu else "triton" if _has_triton(vertices.device) else "torch"
    if backend == "numba":
        if not on_cpu:
            raise ValueError(f"the numba back end works on CPU tensors, got {vertices.device}; use 'triton' or 'torch'")
        return raster_numba.triangle_ids(vertices, faces, height, width, cull_backfaces)
    if backend == "triton":
        from tokenface.render import raster_triton  # Triton exists on Linux only

        return raster_triton.triangle_ids(vertices, faces, height, width, cull_backfaces)
    if backend == "torch":
        return raster_torch.triangle_ids(vertices, faces, height, width, cull_backfaces)
    raise ValueError(f"unknown rasteriser back end {backend!r}; choose auto, numba, triton or torch")


def _has_triton(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def _barycentrics(vertices: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """[P, 3] and depth [P]: areas of the three triangles that the pixel centre makes with the edges."""
    _, height, width = ids.shape
    image, within = pixels // (height * width), pixels % (height * width)
    rows = faces[ids.view(-1)[pixels].long()] + (image * vertices.shape[1])[:, None]
    corners = gather_rows(vertices.reshape(-1, 3), rows.view(-1)).view(-1, 3, 3)
    # relative to the pixel centre and in pixels, which keeps the small differences exact in float32
    x = (corners[..., 0] + (1 - (2 * (within % width) + 1) / width)[:, None]) * (width / 2)
    y = (corners[..., 1] + (1 - (2 * (within // width) + 1) / height)[:, None]) * (height / 2)
    x0, x1, x2 = x.unbind(1)
    y0, y1, y2 = y.unbind(1)
    areas = torch.stack([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0], dim=1)
    total = areas.sum(dim=1, keepdim=True)
    edge_on = total.abs() < _MIN_AREA
    areas = torch.where(edge_on, areas.detach(), areas)
    total = torch.where(edge_on, total.detach(), total)
    # The ids come from vertices on the 1/4096-pixel grid: a centre may lie outside by that much.
    weights = (areas / torch.where(total == 0, 1, total)).clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return weights, (weights * corners[..., 2]).sum(dim=1)
