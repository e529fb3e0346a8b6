"""Rendering: rasteriser, texture, shading, drawings for people."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenface.geometry.normals import vertex_normals
    from tokenface.render.rasterizer import Fragments, interpolate, rasterize
    from tokenface.render.renderer import RenderedFaces, Renderer
    from tokenface.render.shading import ambient_light, sh_basis, shade
    from tokenface.render.texture import HeadAlbedo, sample_texture

__all__ = [
    "Fragments",
    "HeadAlbedo",
    "RenderedFaces",
    "Renderer",
    "ambient_light",
    "interpolate",
    "rasterize",
    "sample_texture",
    "sh_basis",
    "shade",
    "vertex_normals",
]
_HOMES = {
    "Fragments": "render.rasterizer",
    "HeadAlbedo": "render.texture",
    "RenderedFaces": "render.renderer",
    "Renderer": "render.renderer",
    "ambient_light": "render.shading",
    "interpolate": "render.rasterizer",
    "rasterize": "render.rasterizer",
    "sample_texture": "render.texture",
    "sh_basis": "render.shading",
    "shade": "render.shading",
    "vertex_normals": "geometry.normals",
}


def __getattr__(name: str) -> Any:
    # these need torch, which pictures of arrays do without
    if name in _HOMES:
        return getattr(importlib.import_module(f"tokenface.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tokenface.render' has no attribute '{name}'")
