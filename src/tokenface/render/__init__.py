"""Rasterising, texture, light and pictures: a posed head and its parameters become an image."""

from tokenface.render.rasterizer import Fragments, interpolate, rasterize

__all__ = ["Fragments", "interpolate", "rasterize"]
