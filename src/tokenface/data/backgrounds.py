"""Background images: out-of-focus rooms, gradients, lights, stripes, studio walls."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.data.draw import Draw

WORK = 48
"""Backgrounds are drawn on a small grid: a lens that is focused on a face blurs what is behind it."""


def sample_backgrounds(draw: Draw, batch: int, size: int, photos: Tensor | None = None) -> Tensor:
    """[B, 3, size, size] sRGB.

    Args:
        photos: [N, 3, P, P] pictures to cut windows from for 60 % of the batch; None: procedural only.
    """
    base = _base_colour(draw, batch)
    image = base[:, :, None, None].expand(batch, 3, WORK, WORK)
    image = image + _gradient(draw, batch)
    image = image + _clouds(draw, batch)
    image = _rectangles(draw, batch, image)
    image = _stripes(draw, batch, image)
    image = _lights(draw, batch, image)
    image = F.interpolate(image.clamp(0, 1), size=(size, size), mode="bicubic", align_corners=False)
    if photos is not None:
        image = torch.where(draw.chance(batch, 1, 1, 1, p=0.6), _windows(draw, batch, size, photos), image)
    sharp = draw.uniform(batch, 1, 1, 1) ** 3 * 0.05
    return (image + sharp * draw.normal(batch, 1, size, size)).clamp(0, 1)


def _base_colour(draw: Draw, batch: int) -> Tensor:
    grey = draw.uniform(batch, 1) ** 1.7 * 0.95
    tint = draw.normal(batch, 3, std=1.0) * draw.uniform(batch, 1) ** 2 * 0.11
    return (grey + tint).clamp(0, 1)


def _gradient(draw: Draw, batch: int) -> Tensor:
    axis = torch.linspace(-1, 1, WORK, device=draw.device)
    slope = draw.normal(batch, 3, 2, std=0.05) + draw.normal(batch, 1, 2, std=0.12)
    return slope[..., :1, None] * axis + slope[..., 1:, None] * axis[:, None]


def _clouds(draw: Draw, batch: int) -> Tensor:
    """Fractal colour noise with its own roughness per picture."""
    strength = draw.uniform(batch, 1, 1, 1) ** 2 * 0.34
    colourful = draw.uniform(batch, 1, 1, 1) ** 2 * 0.25
    total = torch.zeros(batch, 3, WORK, WORK, device=draw.device)
    for cells, share in ((3, 0.6), (6, 0.45), (12, 0.35), (24, 0.3), (WORK, 0.12)):
        noise = colourful * draw.normal(batch, 3, cells, cells) + draw.normal(batch, 1, cells, cells)
        own = share * draw.uniform(batch, 1, 1, 1, high=1.6)
        total = total + own * F.interpolate(noise, size=(WORK, WORK), mode="bilinear", align_corners=False)
    return strength * total


def _rectangles(draw: Draw, batch: int, image: Tensor, count: int = 7) -> Tensor:
    """Windows, doors, screens, shelves: soft-edged boxes."""
    axis = (torch.arange(WORK, device=draw.device) + 0.5) / WORK
    present = draw.chance(batch, count, p=draw.uniform(batch, 1) * 0.9)
    centre = draw.uniform(batch, count, 2, low=-0.1, high=1.1)
    half = draw.log_uniform(batch, count, 2, low=0.03, high=0.5)
    edge = draw.uniform(batch, count, 2, low=8, high=60)
    reach = ((half[..., None] - (axis - centre[..., None]).abs()) * edge[..., None] + 0.5).clamp(0, 1)
    cover = reach[:, :, 1, :, None] * reach[:, :, 0, None, :] * present[..., None, None]
    colour = _base_colour(draw, batch * count).view(batch, count, 3)
    colour = torch.lerp(colour, image.mean((2, 3))[:, None], draw.uniform(batch, count, 1))
    for k in range(count):
        image = torch.lerp(image, colour[:, k, :, None, None].expand_as(image), cover[:, k, None])
    return image


def _stripes(draw: Draw, batch: int, image: Tensor) -> Tensor:
    """Blinds, panelling, shelves of books."""
    axis = torch.linspace(0, 1, WORK, device=draw.device)
    angle = torch.where(draw.chance(batch, p=0.7), draw.index(batch, count=2) * 1.5708, draw.uniform(batch, high=3.14))
    across = torch.cos(angle)[:, None, None] * axis + torch.sin(angle)[:, None, None] * axis[:, None]
    wave = torch.sin(6.283 * (draw.log_uniform(batch, 1, 1, low=2, high=14) * across + draw.uniform(batch, 1, 1)))
    wave = (wave * draw.log_uniform(batch, 1, 1, low=0.7, high=6)).clamp(-1, 1)
    strength = draw.chance(batch, 1, 1, p=0.2) * draw.uniform(batch, 1, 1, high=0.25)
    return image + (strength * wave)[:, None]


def _lights(draw: Draw, batch: int, image: Tensor, count: int = 4) -> Tensor:
    """Out-of-focus lamps and dark blobs (other people, furniture)."""
    axis = (torch.arange(WORK, device=draw.device) + 0.5) / WORK
    present = draw.chance(batch, count, p=draw.uniform(batch, 1) * 0.7)
    centre = draw.uniform(batch, count, 2)
    radius = draw.log_uniform(batch, count, 1, 1, low=0.02, high=0.3)
    gap = (axis[None, None, None, :] - centre[..., 0, None, None]) ** 2 + (
        axis[:, None] - centre[..., 1, None, None]
    ) ** 2
    cover = ((1 - gap.sqrt() / radius) * 4).clamp(0, 1) * present[..., None, None]
    colour = draw.uniform(batch, count, 3) * 0.25 + draw.uniform(batch, count, 1) * 0.7
    for k in range(count):
        image = torch.lerp(image, colour[:, k, :, None, None].expand_as(image), cover[:, k, None])
    return image


def _windows(draw: Draw, batch: int, size: int, photos: Tensor) -> Tensor:
    """Random square windows of photographs, mirrored at random."""
    photos = photos.to(draw.device)
    chosen = photos[draw.index(batch, count=photos.shape[0])]
    zoom = draw.uniform(batch, low=0.25, high=1.0)
    flip = 1.0 - 2.0 * draw.index(batch, count=2)
    shift = draw.uniform(batch, 2, low=-1, high=1) * (1 - zoom)[:, None]
    theta = torch.zeros(batch, 2, 3, device=draw.device)
    theta[:, 0, 0], theta[:, 1, 1] = zoom * flip, zoom
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    return F.grid_sample(chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
