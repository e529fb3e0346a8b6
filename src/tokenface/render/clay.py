"""Clay rendering: antialiased, lit by a key, a fill and a rim light.

Everything happens in picture space: vertices in pixels of the photo, x right, y down, z depth in the same unit,
smaller is nearer. Nothing here is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.images.srgb import from_linear, to_linear
from tokenface.render.raster_arrays import ArrayFragments, at_pixels, rasterize_arrays

_BAND_SAMPLES = 1 << 20  # samples rasterised at once: bounds the memory of large pictures
_SHADOW_SIZE = 192  # pixels of a shadow map, over a whole head
_SKY_DIRECTIONS = 40


@dataclass(frozen=True)
class ClayStyle:
    """Look of the mesh. Colours are sRGB in [0, 1]; lights are (direction towards the light, linear RGB).

    Directions are x right, y up, z towards the viewer.
    """

    colour: tuple[float, float, float] = (0.80, 0.76, 0.72)
    key: tuple[tuple[float, float, float], tuple[float, float, float]] = ((-0.55, 0.65, 0.75), (1.75, 1.64, 1.5))
    fill: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.85, 0.1, 0.55), (0.16, 0.2, 0.27))
    rim: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.55, 0.5, -0.75), (0.9, 0.95, 1.05))
    sky: tuple[float, float, float] = (0.26, 0.28, 0.32)
    ground: tuple[float, float, float] = (0.13, 0.11, 0.10)
    gloss: float = 0.10
    shininess: float = 28.0
    shadows: bool = True
    wireframe: float = 0.0  # line width in picture pixels; 0: none
    wire_colour: tuple[float, float, float] = (0.16, 0.19, 0.24)
    wire_alpha: float = 0.55
    surface_alpha: float = 1.0  # 0 with a wireframe: lines alone


def clay_layer(
    vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    *,
    style: ClayStyle | None = None,
    colours: np.ndarray | None = None,
    supersample: int | None = None,
) -> np.ndarray:
    """One mesh as a picture layer.

    Args:
        vertices: [V, 3] photo pixels (x right, y down, pixel centres at +0.5) and depth in pixels, smaller is nearer.
        faces: [F, 3].
        height, width: of the picture.
        colours: [V, 3] sRGB per vertex instead of the clay's own colour.
        supersample: samples per pixel side; None: 3, or 2 for pictures above a megapixel.
    Returns:
        [H, W, 4] float32, premultiplied sRGB and coverage; empty when a vertex is not finite.
    """
    style = style or ClayStyle()
    points, triangles = np.asarray(vertices, np.float32), np.asarray(faces, np.int64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"vertices are [V, 3] in photo pixels, got {points.shape}")
    layer = np.zeros((height, width, 4), np.float32)
    if not np.isfinite(points).all():
        return layer
    left, top = (max(math.floor(v) - 1, 0) for v in points[:, :2].min(axis=0))
    right, bottom = (math.ceil(v) + 1 for v in points[:, :2].max(axis=0))
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return layer

    factor = supersample or (3 if (right - left) * (bottom - top) <= 1 << 20 else 2)
    attributes = np.concatenate(_vertex_look(points, triangles, style, colours), axis=1, dtype=np.float32)
    rows = max(_BAND_SAMPLES // (factor * factor * (right - left)), 1)
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        layer[first:last, left:right] = _band(points, triangles, attributes, style, factor, (left, first, right, last))
    return layer


def _vertex_look(
    points: np.ndarray, faces: np.ndarray, style: ClayStyle, colours: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per vertex: normal [V, 3] (y up, z to the viewer), openness to sky and to the key light [V, 2], linear RGB."""
    space = points * np.array([1, -1, -1], np.float32)
    normals = mesh_normals(space, faces).astype(np.float32)
    if style.shadows:
        sky = _sphere_directions(_SKY_DIRECTIONS)
        cosines = (normals @ sky.T).clip(0)
        open_to = _visible(space, faces, np.concatenate([sky, _key_directions(style)]), normals)
        ambient = (open_to[:, : len(sky)] * cosines).sum(1) / cosines.sum(1).clip(1e-6)
        shadow = open_to[:, len(sky) :].mean(1)
    else:
        ambient = shadow = np.ones(len(points), np.float32)
    surface = np.asarray(style.colour if colours is None else colours, np.float32)
    return normals, np.stack([ambient, shadow], 1), np.broadcast_to(to_linear(surface.clip(0)), points.shape)


def _visible(space: np.ndarray, faces: np.ndarray, directions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """[V, K]: how much of the light from each direction reaches each vertex, by a shadow map per direction."""
    centre = (space.max(axis=0) + space.min(axis=0)) / 2
    radius = max(float(np.linalg.norm(space - centre, axis=1).max()), 1e-6)
    forward = _unit(directions)
    helper = np.where(np.abs(forward[:, 1:2]) > 0.9, [[1, 0, 0]], [[0, 1, 0]])
    right = _unit(np.cross(helper, forward))
    axes = np.stack([right, np.cross(forward, right), -forward], axis=1).astype(np.float32)  # depth is third
    axes *= np.array([0.98, 0.98, 1], np.float32)[:, None]
    # Start a little off the surface, or a vertex would shade itself.
    lifted = (space + normals * np.float32(0.012 * radius) - centre) / np.float32(radius)
    views = (space - centre) / np.float32(radius) @ axes.transpose(0, 2, 1)  # [K, V, 3]
    probes = lifted @ axes.transpose(0, 2, 1)
    depth = rasterize_arrays(views, faces, _SHADOW_SIZE, _SHADOW_SIZE).depth(9.0).reshape(len(views), -1)
    # bilinear comparison of the four texels around the probe
    pixel = (probes[..., :2] + 1) * (_SHADOW_SIZE / 2) - 0.5
    base = np.floor(pixel)
    fraction, base = pixel - base, base.astype(np.int64)
    lit = np.zeros(views.shape[:2], np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            x = (base[..., 0] + dx).clip(0, _SHADOW_SIZE - 1)
            y = (base[..., 1] + dy).clip(0, _SHADOW_SIZE - 1)
            nearest = np.take_along_axis(depth, y * _SHADOW_SIZE + x, axis=1)
            across = fraction[..., 0] if dx else 1 - fraction[..., 0]
            along = fraction[..., 1] if dy else 1 - fraction[..., 1]
            lit += across * along * (probes[..., 2] <= nearest + 0.008)
    return lit.T


def _sphere_directions(count: int) -> np.ndarray:
    """[count, 3] spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count, dtype=np.float32) + 0.5
    y, angle = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)


def _key_directions(style: ClayStyle) -> np.ndarray:
    """The key light is an area, which softens its shadows: the centre and a ring of eight."""
    centre = _unit(np.array(style.key[0], np.float32))
    side = _unit(np.cross(centre, [0, 1, 0]))
    above = np.cross(side, centre)
    angles = np.arange(8)[:, None] * (math.pi / 4)
    ring = centre + 0.22 * (np.cos(angles) * side + np.sin(angles) * above)
    return np.concatenate([centre[None], ring]).astype(np.float32)


def _band(
    points: np.ndarray,
    faces: np.ndarray,
    attributes: np.ndarray,
    style: ClayStyle,
    factor: int,
    box: tuple[int, int, int, int],
) -> np.ndarray:
    """A rectangle of the layer: supersampled, shaded in linear light, averaged, back to sRGB."""
    left, top, right, bottom = box
    height, width = (bottom - top) * factor, (right - left) * factor
    scale = np.array([2 / (right - left), 2 / (bottom - top)], np.float32)
    ndc = np.column_stack([(points[:, :2] - np.array([left, top], np.float32)) * scale - 1, points[:, 2]])
    fragments = rasterize_arrays(ndc[None], faces, height, width)
    colour = _light(at_pixels(fragments, attributes, faces), style)
    alpha = np.full((len(colour), 1), style.surface_alpha, np.float32)
    if style.wireframe > 0:
        line = _edge_coverage(points, faces, fragments, style.wireframe) * np.float32(style.wire_alpha)
        wire = to_linear(np.array(style.wire_colour, np.float32))
        covered = alpha + (1 - alpha) * line
        colour = (colour * alpha * (1 - line) + wire * line) / covered.clip(1e-6)
        alpha = covered
    samples = np.zeros((height * width, 4), np.float32)
    samples[fragments.pixels] = np.concatenate([colour * alpha, alpha], axis=1)
    mean = samples.reshape(bottom - top, factor, right - left, factor, 4).mean(axis=(1, 3))
    coverage = mean[..., 3:]
    return np.concatenate([from_linear((mean[..., :3] / coverage.clip(1e-6)).clip(0, 1)) * coverage, coverage], axis=-1)


def _light(values: np.ndarray, style: ClayStyle) -> np.ndarray:
    """Linear RGB [P, 3] of samples with interpolated normal, openness and colour."""
    normal = _unit(values[:, :3])
    normal *= np.where(normal[:, 2:] < -0.25, np.float32(-1), np.float32(1))  # the inside of an open mesh
    ambient, shadow, surface = values[:, 3:4].clip(0, 1), values[:, 4:5].clip(0, 1), values[:, 5:8]

    up = normal[:, 1:2] * np.float32(0.5) + np.float32(0.5)
    light = (_float(style.sky) * up + _float(style.ground) * (1 - up)) * ambient
    gloss = np.zeros_like(light)
    for (direction, power), openness in (
        (style.key, shadow),
        (style.fill, ambient),
        (style.rim, ambient),
    ):
        towards = _unit(_float(direction))
        # a soft terminator, as of skin or clay
        cosine = ((normal @ towards)[:, None] + np.float32(0.12)).clip(0) / np.float32(1.12)
        half = _unit(towards + _float((0.0, 0.0, 1.0)))
        gleam = (normal @ half)[:, None].clip(0) ** np.float32(style.shininess) * (cosine > 0)
        light += _float(power) * (cosine * openness)
        gloss += _float(power) * (gleam * openness)
    colour = surface * light + np.float32(style.gloss) * gloss
    return np.float32(1.25) * colour * (1 + colour / 9) / (1 + colour)  # highlights roll off (Reinhard)


def _edge_coverage(points: np.ndarray, faces: np.ndarray, fragments: ArrayFragments, line_width: float) -> np.ndarray:
    """[P, 1]: 1 on the edges of the triangles, falling to 0 over a pixel."""
    corners = points[faces][:, :, :2]
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    heights = area[:, None] / np.linalg.norm(sides, axis=2).clip(1e-6)  # of each corner over its opposite side, pixels
    distance = (fragments.pixel_barycentrics * heights[fragments.pixel_triangles]).min(axis=1, keepdims=True)
    return (np.float32(line_width / 2 + 0.5) - distance).clip(0, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """[..., 3] of length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)).astype(np.float32)


def _float(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)
