"""Layers of a scene: fixed lists of meshes, concatenated once, rasterised once per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.data.scene.parts import Shape, Topology
from tokenface.geometry.normals import vertex_normals
from tokenface.render.rasterizer import Backend, Fragments, interpolate, rasterize

NO_END = 1.0
"""Metres to the nearest free end where there is none."""


@dataclass(frozen=True)
class Drawn:
    """Covered pixels of a layer, N in all. index: [N] into [B·H·W].  rows: [N] picture.  part: [N].  depth: [N].
    behind: [N] bool, the surface's inner side is seen.
    static: [Cs, N] and dynamic: [Cd, N] interpolated attributes.  texture: [2, N] texture coordinates.
    depth_map: [B, H, W], inf where empty."""

    index: Tensor
    rows: Tensor
    part: Tensor
    depth: Tensor
    behind: Tensor
    static: Tensor
    dynamic: Tensor
    texture: Tensor
    depth_map: Tensor


class Layer:
    """Parts in drawing order of their identifiers (the position in the list)."""

    def __init__(self, parts: Sequence[Topology], texture_faces: Tensor | None = None, texture: Tensor | None = None):
        """Args: texture_faces, texture: own texture topology of the first part (a head's uv), else as its vertices."""
        counts = [p.coordinates.shape[0] for p in parts]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        self.faces = torch.cat([p.faces + s for p, s in zip(parts, starts, strict=True)])
        self.part = torch.cat([torch.full((len(p.faces),), i) for i, p in enumerate(parts)])
        if texture_faces is None or texture is None:
            self.texture_faces, self.texture = self.faces, torch.cat([p.coordinates for p in parts])
        else:
            shift = texture.shape[0] - counts[0]
            rest = [p.faces + s + shift for p, s in zip(parts[1:], starts[1:], strict=True)]
            self.texture_faces = torch.cat([texture_faces, *rest])
            self.texture = torch.cat([texture, *(p.coordinates for p in parts[1:])])

    def to(self, device: torch.device | str) -> Layer:
        for name in ("faces", "part", "texture_faces", "texture"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def draw(
        self,
        vertices: Tensor,
        ndc: Tensor,
        rotation: Tensor,
        extra: Tensor,
        static: Tensor,
        size: int,
        backend: Backend,
    ) -> Drawn:
        """Rasterise and interpolate.

        Args:
            vertices: [B, V, 3] head space (for normals).  ndc: [B, V, 3].  rotation: [B, 3, 3] head to camera.
            extra: [B, V, C] further attributes, appended to the normals.  static: [V, Cs].
        Returns:
            Drawn; dynamic = camera-space normals (3, not normalised) and the extra ones.
        """
        normals = vertex_normals(vertices, self.faces) @ rotation.transpose(1, 2)
        fragments = rasterize(ndc, self.faces, size, size, backend)
        index = fragments.pixels
        rows = index // (size * size)
        triangle = fragments.triangle_ids.view(-1).index_select(0, index).long()
        depth_map = torch.full_like(fragments.triangle_ids, torch.inf, dtype=ndc.dtype)
        depth_map.view(-1)[index] = fragments.pixel_depth
        return Drawn(
            index=index,
            rows=rows,
            part=self.part.index_select(0, triangle),
            depth=fragments.pixel_depth,
            behind=_inner_side(ndc, self.faces).view(-1).index_select(0, rows * len(self.faces) + triangle),
            static=_at(fragments, static, self.faces),
            dynamic=_at(fragments, torch.cat([normals, extra], dim=-1), self.faces),
            texture=_at(fragments, self.texture, self.texture_faces),
            depth_map=depth_map,
        )


def _inner_side(ndc: Tensor, faces: Tensor) -> Tensor:
    """[B, F] bool: triangles that turn their back to the viewer (clockwise once y points down is the front)."""
    a, b, c = ndc[..., :2].index_select(1, faces.T.flatten()).unflatten(1, (3, -1)).unbind(1)
    first, second = b - a, c - a
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0] > 0


def _at(fragments: Fragments, attributes: Tensor, faces: Tensor) -> Tensor:
    """Interpolated attributes of the covered pixels only, [C, N]."""
    return interpolate(fragments, attributes, faces).flatten(0, 2).index_select(0, fragments.pixels).T.contiguous()


def join(shapes: Sequence[Shape]) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes → vertices [B, n, 3], tangents [B, n, 3] and distances to a free end [B, n] of a whole layer."""
    vertices = torch.cat([s.vertices for s in shapes], dim=1)
    tangents = torch.cat([torch.zeros_like(s.vertices) if s.tangents is None else s.tangents for s in shapes], dim=1)
    ends = [torch.full_like(s.vertices[..., 0], NO_END) if s.end is None else s.end for s in shapes]
    return vertices, tangents, torch.cat(ends, dim=1)
