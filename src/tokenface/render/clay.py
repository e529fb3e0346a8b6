"""Clay rendering: antialiased, lit by a key, a fill and a rim light.

Everything happens in picture space: vertices in pixels of the photo, x right, y down, z depth in the same unit,
smaller is nearer. Nothing here is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.geometry.normals import vertex_normals
from tokenface.render.rasterizer import interpolate, rasterize

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
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    height: int,
    width: int,
    *,
    style: ClayStyle | None = None,
    colours: np.ndarray | Tensor | None = None,
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
    points = torch.as_tensor(np.asarray(vertices), dtype=torch.float32)
    triangles = torch.as_tensor(np.asarray(faces), dtype=torch.int64)
    if points.dim() != 2 or points.shape[1] != 3:
        raise ValueError(f"vertices are [V, 3] in photo pixels, got {tuple(points.shape)}")
    layer = np.zeros((height, width, 4), np.float32)
    if not torch.isfinite(points).all():
        return layer
    left, top = (max(math.floor(v) - 1, 0) for v in points[:, :2].amin(0).tolist())
    right, bottom = (math.ceil(v) + 1 for v in points[:, :2].amax(0).tolist())
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return layer

    factor = supersample or (3 if (right - left) * (bottom - top) <= 1 << 20 else 2)
    attributes = torch.cat(_vertex_look(points, triangles, style, colours), dim=1)
    rows = max(_BAND_SAMPLES // (factor * factor * (right - left)), 1)
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        layer[first:last, left:right] = _band(points, triangles, attributes, style, factor, (left, first, right, last))
    return layer


def _vertex_look(
    points: Tensor, faces: Tensor, style: ClayStyle, colours: np.ndarray | Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Per vertex: normal [V, 3] (y up, z to the viewer), openness to sky and to the key light [V, 2], linear RGB."""
    space = points * points.new_tensor([1, -1, -1])
    normals = vertex_normals(space[None], faces)[0]
    if style.shadows:
        sky = _sphere_directions(_SKY_DIRECTIONS)
        cosines = (normals @ sky.T).clamp(min=0)
        open_to = _visible(space, faces, torch.cat([sky, _key_directions(style)]), normals)
        ambient = (open_to[:, : len(sky)] * cosines).sum(1) / cosines.sum(1).clamp(min=1e-6)
        shadow = open_to[:, len(sky) :].mean(1)
    else:
        ambient = shadow = torch.ones(len(points))
    if colours is None:
        surface = torch.tensor(style.colour).expand(len(points), 3)
    else:
        surface = torch.as_tensor(np.asarray(colours), dtype=torch.float32)
    return normals, torch.stack([ambient, shadow], 1), _linear(surface)


def _visible(space: Tensor, faces: Tensor, directions: Tensor, normals: Tensor) -> Tensor:
    """[V, K]: how much of the light from each direction reaches each vertex, by a shadow map per direction."""
    centre = (space.amax(0) + space.amin(0)) / 2
    radius = (space - centre).norm(dim=1).max().clamp(min=1e-6)
    forward = F.normalize(directions, dim=1)
    helper = torch.where(forward[:, 1:2].abs() > 0.9, torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    right = F.normalize(torch.linalg.cross(helper, forward), dim=1)
    axes = torch.stack([right, torch.linalg.cross(forward, right), -forward], dim=1)  # [K, 3, 3], depth is third
    # Start a little off the surface, or a vertex would shade itself.
    lifted = (space + normals * (0.012 * radius) - centre) / radius
    views = torch.einsum("kij,vj->kvi", axes, (space - centre) / radius) * torch.tensor([0.98, 0.98, 1.0])
    probes = torch.einsum("kij,vj->kvi", axes, lifted) * torch.tensor([0.98, 0.98, 1.0])
    fragments = rasterize(views, faces, _SHADOW_SIZE, _SHADOW_SIZE)
    depth = torch.where(fragments.mask, fragments.depth, 9.0)
    # bilinear comparison of the four texels around the probe
    pixel = (probes[..., :2] + 1) * (_SHADOW_SIZE / 2) - 0.5
    base = pixel.floor()
    fraction = pixel - base
    lit = torch.zeros(views.shape[:2])
    for dy in (0, 1):
        for dx in (0, 1):
            x = (base[..., 0].long() + dx).clamp(0, _SHADOW_SIZE - 1)
            y = (base[..., 1].long() + dy).clamp(0, _SHADOW_SIZE - 1)
            nearest = depth.flatten(1).gather(1, y * _SHADOW_SIZE + x)
            weight = (fraction[..., 0] if dx else 1 - fraction[..., 0]) * (
                fraction[..., 1] if dy else 1 - fraction[..., 1]
            )
            lit += weight * (probes[..., 2] <= nearest + 0.008)
    return lit.T


def _sphere_directions(count: int) -> Tensor:
    """[count, 3] spread evenly over the sphere (Fibonacci lattice)."""
    k = torch.arange(count) + 0.5
    y, angle = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
    ring = (1 - y * y).sqrt()
    return torch.stack([ring * angle.cos(), y, ring * angle.sin()], dim=1)


def _key_directions(style: ClayStyle) -> Tensor:
    """The key light is an area, which softens its shadows: the centre and a ring of eight."""
    centre = F.normalize(torch.tensor(style.key[0]), dim=0)
    side = F.normalize(torch.linalg.cross(centre, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    above = torch.linalg.cross(side, centre)
    angles = torch.arange(8) * (math.pi / 4)
    ring = centre + 0.22 * (angles.cos()[:, None] * side + angles.sin()[:, None] * above)
    return torch.cat([centre[None], ring])


def _band(
    points: Tensor,
    faces: Tensor,
    attributes: Tensor,
    style: ClayStyle,
    factor: int,
    box: tuple[int, int, int, int],
) -> np.ndarray:
    """A rectangle of the layer: supersampled, shaded in linear light, averaged, back to sRGB."""
    left, top, right, bottom = box
    height, width = (bottom - top) * factor, (right - left) * factor
    scale = torch.tensor([2 / (right - left), 2 / (bottom - top)])
    ndc = torch.cat([(points[:, :2] - torch.tensor([left, top])) * scale - 1, points[:, 2:]], dim=1)
    fragments = rasterize(ndc[None], faces, height, width)
    values = interpolate(fragments, attributes, faces).view(-1, attributes.shape[1])[fragments.pixels]
    colour = _light(values, style)
    alpha = torch.full((len(colour), 1), style.surface_alpha)
    if style.wireframe > 0:
        line = _edge_coverage(points, faces, fragments, style.wireframe) * style.wire_alpha
        wire = _linear(torch.tensor(style.wire_colour))
        covered = alpha + (1 - alpha) * line
        colour = (colour * alpha * (1 - line) + wire * line) / covered.clamp(min=1e-6)
        alpha = covered
    samples = torch.zeros(height * width, 4)
    samples[fragments.pixels] = torch.cat([colour * alpha, alpha], dim=1)
    mean = F.avg_pool2d(samples.view(height, width, 4).permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0)
    coverage = mean[..., 3:]
    straight = _srgb((mean[..., :3] / coverage.clamp(min=1e-6)).clamp(0, 1))
    return torch.cat([straight * coverage, coverage], dim=-1).numpy()


def _light(values: Tensor, style: ClayStyle) -> Tensor:
    """Linear RGB [P, 3] of samples with interpolated normal, openness and colour."""
    normal = F.normalize(values[:, :3], dim=1)
    normal = torch.where(normal[:, 2:] < -0.25, -normal, normal)  # the inside of an open mesh
    ambient, shadow, surface = values[:, 3:4].clamp(0, 1), values[:, 4:5].clamp(0, 1), values[:, 5:8]

    up = normal[:, 1:2] * 0.5 + 0.5
    light = (torch.tensor(style.sky) * up + torch.tensor(style.ground) * (1 - up)) * ambient
    gloss = torch.zeros_like(light)
    for (direction, power), openness in (
        (style.key, shadow),
        (style.fill, ambient),
        (style.rim, ambient),
    ):
        towards = F.normalize(torch.tensor(direction), dim=0)
        # a soft terminator, as of skin or clay
        cosine = ((normal @ towards)[:, None] + 0.12).clamp(min=0) / 1.12
        half = F.normalize(towards + torch.tensor([0.0, 0.0, 1.0]), dim=0)
        gleam = (normal @ half)[:, None].clamp(min=0) ** style.shininess * (cosine > 0)
        light = light + torch.tensor(power) * cosine * openness
        gloss = gloss + torch.tensor(power) * gleam * openness
    colour = surface * light + style.gloss * gloss
    return 1.25 * colour * (1 + colour / 9) / (1 + colour)  # highlights roll off instead of clipping (Reinhard)


def _edge_coverage(points: Tensor, faces: Tensor, fragments, line_width: float) -> Tensor:
    """[P, 1]: 1 on the edges of the triangles, falling to 0 over a pixel."""
    corners = points[faces][:, :, :2]
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
    heights = area[:, None] / sides.norm(dim=2).clamp(min=1e-6)  # of each corner over its opposite side, pixels
    triangle = fragments.triangle_ids.view(-1)[fragments.pixels].long()
    distance = (fragments.pixel_barycentrics * heights[triangle]).amin(dim=1, keepdim=True)
    return (line_width / 2 + 0.5 - distance).clamp(0, 1)


def _linear(colour: Tensor) -> Tensor:
    """sRGB to linear light."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def _srgb(colour: Tensor) -> Tensor:
    """Linear light to sRGB."""
    return torch.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
