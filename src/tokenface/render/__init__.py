"""Rendering: rasteriser, texture, shading, drawings for people."""

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
