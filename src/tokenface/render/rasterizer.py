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

Backend = Literal["auto", "numba", "triton", "torch"]


@dataclass(frozen=True)
class Fragments:
    """Fragments of B images; P is the number of covered pixels of the whole batch.

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
        return raster_torch.spread(self.pixel_barycentrics, self.triangle_ids, self.pixels)

    @cached_property
    def depth(self) -> Tensor:
        """[B, H, W]; 0 outside the mask."""
        return raster_torch.spread(self.pixel_depth[:, None], self.triangle_ids, self.pixels)[..., 0]


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
    if vertices.dtype in (torch.float16, torch.bfloat16):  # eight bits of a bfloat16 cannot tell pixels apart
        vertices = vertices.float()
    with torch.no_grad():
        ids = _triangle_ids(vertices.detach().float(), faces, height, width, backend, cull_backfaces)
    pixels = (ids.view(-1) >= 0).nonzero().view(-1)
    compute = raster_numba if _compiled(vertices) else raster_torch
    barycentrics, depth = compute.barycentrics(vertices, faces, ids, pixels)
    return Fragments(ids, pixels, barycentrics, depth)


def interpolate(fragments: Fragments, attributes: Tensor, faces: Tensor) -> Tensor:
    """Attributes at every pixel; zeros outside the mask.

    Args:
        attributes: [V, C] shared by the batch, or [B, V, C].
        faces: [F, 3] indices into the attributes; `uv_faces` for texture coordinates.
    Returns:
        [B, H, W, C].
    """
    if attributes.dim() not in (2, 3) or (attributes.dim() == 3 and attributes.shape[0] != len(fragments.triangle_ids)):
        raise ValueError(
            f"attributes are [V, C] or [B, V, C] with B = {len(fragments.triangle_ids)}, got {tuple(attributes.shape)}"
        )
    faces = faces.to(attributes.device, torch.int64)
    compute = raster_numba if _compiled(attributes, fragments.pixel_barycentrics) else raster_torch
    return compute.interpolate(
        attributes, faces, fragments.triangle_ids, fragments.pixels, fragments.pixel_barycentrics
    )


def _compiled(*tensors: Tensor) -> bool:
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


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
