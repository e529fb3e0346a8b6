"""Scene lighting: spherical-harmonic sky, two lamps with cast shadows, and the equivalent 27 coefficients."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw
from tokenface.geometry.normals import vertex_normals
from tokenface.render.rasterizer import rasterize
from tokenface.render.shading import sh_basis


@dataclass(frozen=True)
class Light:
    """Camera space (x right, y up, z towards the viewer), linear RGB.

    sky: [B, 9, 3] coefficients of `sh_basis`.  direction: [B, 2, 3] unit vectors towards the key and fill lamps.
    colour: [B, 2, 3].  softness: [B] 0 a point, 1 a window: how far light wraps around.  shadow: [B] their strength.
    exposure: [B] the picture's brightness factor.
    """

    sky: Tensor
    direction: Tensor
    colour: Tensor
    softness: Tensor
    shadow: Tensor
    exposure: Tensor


def sample_light(draw: Draw, batch: int) -> Light:
    warmth = 0.1 + draw.normal(batch, 1, std=0.1)
    tint = torch.exp(torch.cat([warmth, 0.1 * draw.normal(batch, 1, std=0.3), -warmth], dim=1))
    sky = torch.zeros(batch, 9, 3, device=draw.device)
    level = draw.uniform(batch, 1, low=0.12, high=0.8)
    cool = torch.exp(draw.normal(batch, 3, std=0.1)) * tint.sqrt()
    sky[:, 0] = level * cool * math.sqrt(4 * math.pi)
    # brighter above or to one side: a linear term of up to the constant one
    lean = F.normalize(draw.normal(batch, 3) * draw.normal(batch, 3).abs() + 0.5 * _up(draw), dim=-1)
    amount = draw.uniform(batch, 1, high=0.42) * level
    for axis in range(3):
        sky[:, 1 + axis] = (amount * lean[:, axis : axis + 1]) * cool * 2.0
    sky[:, 4:] = (
        draw.normal(batch, 5, 3, std=0.06) * level[:, None] + draw.normal(batch, 5, 1, std=0.12) * level[:, None]
    )

    azimuth = torch.where(
        draw.chance(batch, p=0.75), draw.normal(batch, std=0.75), draw.uniform(batch, low=-2.6, high=2.6)
    )
    elevation = draw.normal(batch, std=0.4) + 0.5
    key = _from_angles(azimuth, elevation.clamp(-0.6, 1.35))
    fill = _from_angles(-azimuth * draw.uniform(batch, low=0.4, high=1.6), draw.normal(batch, std=0.5))
    strength = draw.uniform(batch, 1, high=1.5) * draw.chance(batch, 1, p=0.85)
    second = draw.uniform(batch, 1) ** 2 * 0.7
    lamp_tint = torch.exp(draw.normal(batch, 2, 3, std=0.08)) * tint[:, None]
    coloured = draw.chance(batch, 1, 1, p=0.06)
    lamp_tint = torch.where(coloured, lamp_tint * (0.4 + draw.uniform(batch, 2, 3)), lamp_tint)
    return Light(
        sky=sky,
        direction=torch.stack([key, fill], dim=1),
        colour=torch.stack([strength, second], dim=1) * lamp_tint,
        softness=draw.uniform(batch) ** 1.5,
        shadow=draw.uniform(batch, low=0.25, high=1.0),
        exposure=0.8 * torch.exp(draw.normal(batch, std=0.22)),
    )


def _up(draw: Draw) -> Tensor:
    return constant([0.0, 1.0, 0.2], device=draw.device)


def _from_angles(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Azimuth 0 is the camera's side, positive to the right of the picture; elevation is up."""
    flat = torch.cos(elevation)
    return torch.stack([flat * torch.sin(azimuth), torch.sin(elevation), flat * torch.cos(azimuth)], dim=-1)


SKIN_LOBE, WET_LOBE = 14.0, 90.0
"""Exponents of highlights on skin and cloth, and on eyes and glass."""


@dataclass(frozen=True)
class Arriving:
    """Light on N surface points by their normals. sky, key, fill: [3, N] linear irradiance.
    key_lobe, fill_lobe: [N] highlights on skin; key_glint: [N] highlights on wet surfaces."""

    sky: Tensor
    key: Tensor
    fill: Tensor
    key_lobe: Tensor
    fill_lobe: Tensor
    key_glint: Tensor


def light_on(light: Light, normals: Tensor) -> Tensor:
    """[B, 12, K]: what arrives at normals [K, 3], in the order of `Arriving`.

    Lamps' light wraps around by their softness, red furthest (skin scatters).
    """
    sky = torch.einsum("kn,bnc->bck", sh_basis(normals), light.sky).clamp(min=0.02)
    cosine = torch.einsum("kc,blc->blk", normals, light.direction)[:, :, None]
    scatter = constant([0.12, 0.05, 0.03], device=normals.device)
    wrap = (light.softness[:, None] * 0.35 + scatter)[:, None, :, None]
    lamps = light.colour[..., None] * ((cosine + wrap) / (1 + wrap)).clamp(min=0)
    viewer = constant([0.0, 0.0, 1.0], device=normals.device)
    lobe = torch.einsum("kc,blc->blk", normals, F.normalize(light.direction + viewer, dim=-1)).clamp(min=0)
    highlights = torch.cat([lobe**SKIN_LOBE, lobe[:, :1] ** WET_LOBE], dim=1)
    return torch.cat([sky, lamps[:, 0], lamps[:, 1], highlights], dim=1)


class Hemisphere:
    """Light by table: every normal in sight faces the viewer, so its x and y are enough to look up what arrives.

    The tables of a batch are drawn on a coarse grid of normals and enlarged smoothly; a look-up is one gather.
    """

    COARSE, FINE = 40, 96

    def __init__(self, light: Light):
        axis = torch.linspace(-1, 1, self.COARSE, device=light.sky.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        z = (1 - x * x - y * y).clamp(min=0).sqrt()
        normals = F.normalize(torch.stack([x, y, z], dim=-1), dim=-1).view(-1, 3)
        table = light_on(light, normals).view(-1, 12, self.COARSE, self.COARSE)
        table = F.interpolate(table, size=(self.FINE, self.FINE), mode="bilinear", align_corners=True)
        self.table = table.transpose(0, 1).reshape(12, -1)

    def at(self, normals: Tensor, rows: Tensor) -> Arriving:
        """normals: [3, N] unit, towards the viewer.  rows: [N] pictures."""
        n = self.FINE
        column, row = ((normals[:2] + 1) * ((n - 1) / 2) + 0.5).int().clamp(0, n - 1)
        values = self.table.index_select(1, rows.int() * (n * n) + row * n + column)
        return Arriving(values[0:3], values[3:6], values[6:9], values[9], values[10], values[11])


def _total(light: Light, directions: Tensor) -> Tensor:
    """[B, K, 3] linear irradiance on surfaces with normals [K, 3]."""
    return light_on(light, directions)[:, :9].unflatten(1, (3, 3)).sum(1).transpose(1, 2)


def auto_exposure(light: Light, lightness: Tensor) -> Tensor:
    """[B] factor that brings surfaces facing the camera to the light's own exposure.

    Args:
        lightness: [B] of the skin in [0, 1]; photographers and cameras open up for dark skin, half way.
    """
    light_skin = (0.62 / lightness.clamp(min=0.08)) ** 0.9
    probes = constant([[0.0, 0.2, 1.0], [0.5, 0.1, 0.8], [-0.5, 0.1, 0.8]], device=light.sky.device)
    return light_skin * light.exposure / _total(light, F.normalize(probes, dim=-1)).mean((1, 2)).clamp(min=0.05)


def explaining_coefficients(light: Light, factor: Tensor) -> Tensor:
    """The light component [B, 9, 3]: least-squares fit, over all normals, to the shading of the encoded picture.

    Light adds up in linear values and pictures hold their square root, so a renderer that multiplies sRGB albedo by
    spherical harmonics comes closest to the picture with these numbers. Args: factor: [B] exposure.
    """
    normals = _sphere(96, light.sky.device)
    encoded = (_total(light, normals) * factor[:, None, None]).clamp(min=1e-4).sqrt()
    return torch.linalg.pinv(sh_basis(normals)) @ encoded


def _sphere(count: int, device: torch.device | str = "cpu") -> Tensor:
    """[count, 3] directions spread evenly (Fibonacci lattice)."""
    i = torch.arange(count, device=device) + 0.5
    polar = torch.acos(1 - 2 * i / count)
    azimuth = math.pi * (1 + 5**0.5) * i
    return torch.stack(
        [torch.sin(polar) * torch.cos(azimuth), torch.cos(polar), torch.sin(polar) * torch.sin(azimuth)], dim=-1
    )


class ShadowTable:
    """Which lamps each vertex of the mean head sees: cast shadows and ambient occlusion by table look-up.

    Computed once per head model with the project's rasteriser, from 96 directions around the head.
    """

    def __init__(self, template: Tensor, faces: Tensor, skin: Tensor, directions: int = 96, size: int = 160):
        """Args: template [V, 3]; faces [F, 3]; skin [V] bool, vertices that cast shadows."""
        self.directions = _sphere(directions)
        casting = faces[skin[faces].all(1)]
        extent = (template - template.mean(0)).norm(dim=1).max()
        frames = _looking_from(self.directions)
        seen = torch.einsum("dij,vj->dvi", frames, (template - template.mean(0)) / extent)
        ndc = torch.stack([seen[..., 0], -seen[..., 1], -seen[..., 2]], dim=-1)
        depth = torch.full((directions, size, size), torch.inf)
        for start in range(0, directions, 16):
            fragments = rasterize(ndc[start : start + 16], casting, size, size)
            depth[start : start + 16].view(-1)[fragments.pixels] = fragments.pixel_depth
        # soft comparison over a 3 × 3 neighbourhood; 5 mm of slack against self-shadowing
        slack = 0.005 / float(extent)
        column = ((ndc[..., 0] + 1) * size / 2).long().clamp(1, size - 2)
        row = ((ndc[..., 1] + 1) * size / 2).long().clamp(1, size - 2)
        flat = depth.view(directions, -1)
        lit = torch.zeros(directions, template.shape[0])
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                lit += (flat.gather(1, (row + dy) * size + column + dx) + slack > ndc[..., 2]).float() / 9
        self.visible = lit  # [D, V]
        normals = vertex_normals(template[None], faces)[0]
        weight = (self.directions @ normals.T).clamp(min=0)
        self.ambient = ((weight * lit).sum(0) / weight.sum(0).clamp(min=1e-6)).clamp(0.05, 1) ** 1.3

    def to(self, device: torch.device | str) -> ShadowTable:
        """A copy on that device."""
        moved = copy.copy(self)
        moved.directions, moved.visible = self.directions.to(device), self.visible.to(device)
        moved.ambient = self.ambient.to(device)
        return moved

    def lit(self, direction: Tensor) -> Tensor:
        """[B, 3] head-space lamp directions → [B, V] share of the lamp that each vertex sees."""
        closeness = direction @ self.directions.T
        weight = torch.softmax(closeness * 60, dim=1)
        return weight @ self.visible


def _looking_from(directions: Tensor) -> Tensor:
    """[D, 3] → rotations [D, 3, 3] that turn each direction to +z (the viewer)."""
    helper = torch.where(directions[:, 1:2].abs() < 0.9, torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    x = F.normalize(torch.linalg.cross(helper, directions), dim=-1)
    return torch.stack([x, torch.linalg.cross(directions, x), directions], dim=1)
