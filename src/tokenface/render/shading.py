"""Spherical-harmonic shading, nine real bands per colour (Sec. 3.1): irradiance of a convex Lambertian surface.

The constants are DECA's (Ramamoorthi and Hanrahan's band weights times the harmonics' own factors), so FLAME-family
light coefficients keep their meaning. Normals are in camera or world space as the caller decides; the network's
light is on world-space normals, x right, y up, z towards the viewer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tokenface.core.device import constant
from tokenface.geometry.harmonics import harmonics
from tokenface.render import shading_numba

SH_CONSTANTS = (
    1 / math.sqrt(4 * math.pi),
    *(3 * ((2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi)),)),
    *(3 * ((math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi)),)),
    (math.pi / 4) * (3 / 2) * math.sqrt(5 / (12 * math.pi)),
    (math.pi / 4) * (1 / 2) * math.sqrt(5 / (4 * math.pi)),
)
"""Factors of `harmonics`."""

AMBIENT = math.sqrt(4 * math.pi)
"""First-band coefficient that makes the shading exactly 1 everywhere: the picture is the albedo."""


def ambient_light(batch: int = 1, intensity: float = 1.0, *, device: torch.device | str | None = None) -> Tensor:
    """White light from everywhere, [B, 9, 3]: intensity 1 shows the albedo unchanged. Light 0 is black."""
    light = torch.zeros(batch, 9, 3, device=device)
    light[:, 0] = AMBIENT * intensity
    return light


def sh_basis(normals: Tensor) -> Tensor:
    """Unit normals [..., 3] → [..., 9], constants included."""
    polynomials = torch.stack(harmonics(*normals.unbind(-1)), dim=-1)
    return polynomials * constant(SH_CONSTANTS, polynomials.device, polynomials.dtype)


def sh_shading(normals: Tensor, light: Tensor) -> Tensor:
    """Irradiance per colour: normals [B, ..., 3], light [B, 9, 3] or [B, 27] → [B, ..., 3].

    Not clamped: a light with strong higher bands can be negative on the far side.
    """
    light = light.reshape(len(light), 9, 3).to(normals.dtype)
    flat = normals.flatten(1, -2)
    if normals.device.type == "cpu" and normals.dtype == torch.float32:
        return shading_numba.sh_shading(flat, light, SH_CONSTANTS).view(normals.shape)
    return (sh_basis(flat) @ light).view(normals.shape)


def shade(albedo: Tensor, normals: Tensor, light: Tensor) -> Tensor:
    """Albedo × SH light (the paper's image formation), without clamping so that gradients stay alive.

    Args:
        albedo: [B, 3, H, W] in [0, 1].
        normals: [B, H, W, 3], unit where covered.
        light: [B, 9, 3] or [B, 27]; 0 is darkness, `ambient_light()` shows the albedo.
    Returns:
        [B, 3, H, W].
    """
    return albedo * sh_shading(normals, light).permute(0, 3, 1, 2)
