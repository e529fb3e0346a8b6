"""Cheap batched changes to labelled crops, so that one rendered face serves several training steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera


class Part(NamedTuple):
    """Rows start … stop of a batch of `total`: they get the random numbers that they would get in the whole batch."""

    start: int
    stop: int
    total: int


def turn_and_zoom(
    image: Tensor,
    camera: Tensor,
    light: Tensor,
    landmarks: Tensor,
    generator: torch.Generator,
    *,
    zoom: float = 0.12,
    degrees: float = 10.0,
    shift: float = 0.06,
    part: Part | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moves the crop: picture, camera, light and landmarks move together.

    Args:
        image: [B, 3, S, S].  camera: [B, 7].  light: [B, 27].  landmarks: [B, N, 2] crop NDC (y down).
        zoom: content grows by up to 1 ± zoom.  degrees: turns by up to ±.  shift: moves by up to ± this NDC.
        part: which rows of a larger batch these are; None: all.
    Returns:
        image, camera, light, landmarks after the same random similarity.
    """
    batch = image.shape[0]

    part = part or Part(0, batch, batch)
    factor = 1 + zoom * _uniform(generator, part, image)
    angle = _uniform(generator, part, image) * math.radians(degrees)
    move = shift * _uniform(generator, part, image, 2)

    cos, sin = torch.cos(angle), torch.sin(angle)
    up = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # y up: anticlockwise
    flip = torch.diag(constant([1.0, -1.0], device=image.device))
    down = flip @ up @ flip

    # grid_sample asks where each output pixel comes from: the inverse similarity
    inverse = down.transpose(1, 2) / factor[:, None, None]
    move_down = move * constant([1.0, -1.0], device=image.device)
    theta = torch.cat([inverse, -(inverse @ move_down[..., None])], dim=-1)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)

    landmarks = factor[:, None, None] * landmarks @ down.transpose(1, 2) + move_down[:, None]
    c = Camera.from_vector(camera)
    about_z = rotations.rotvec_to_rotmat(F.pad(angle[:, None], (2, 0)))
    rotation = rotations.rotmat_to_rotvec(about_z @ c.rotation_matrix())
    translation = factor[:, None] * (about_z @ c.translation[..., None])[..., 0] + F.pad(move, (0, 1))
    camera = Camera(c.scale * factor, rotation, translation).to_vector()
    return image, camera, turn_light(light, angle), landmarks


def turn_light(light: Tensor, angle: Tensor) -> Tensor:
    """Spherical-harmonic light after a turn about the viewing axis.

    Bands on [1, x, y, z, xy, xz, yz, x² − y², 3z² − 1]: (x, y) and (xz, yz) turn by the angle, (x² − y², 2xy) by twice.

    Args:
        light: [B, 27].  angle: [B] radians, anticlockwise seen by the viewer.
    """
    bands = list(light.view(-1, 9, 3).unbind(1))
    for i, j, turns in ((1, 2, 1), (5, 6, 1), (7, 4, 2)):
        cos, sin = torch.cos(turns * angle)[:, None], torch.sin(turns * angle)[:, None]
        bands[i], bands[j] = cos * bands[i] - sin * bands[j], sin * bands[i] + cos * bands[j]
    return torch.stack(bands, 1).flatten(1)


def colour_jitter(
    image: Tensor, generator: torch.Generator, *, strength: float = 1.0, part: Part | None = None
) -> Tensor:
    """Brightness, contrast, cast, saturation, gamma, noise, now and then grey: [B, 3, S, S] → same, in [0, 1].

    `part` says which rows of a larger batch these are; None: all.
    """
    part = part or Part(0, len(image), len(image))

    def per_image(spread: float, channels: int = 1) -> Tensor:
        return spread * strength * _uniform(generator, part, image, channels, 1, 1)

    image = image.clamp(1e-4, 1).pow(torch.exp(per_image(0.25)))
    image = image * torch.exp(per_image(0.2) + per_image(0.06, 3))
    mean = image.mean((2, 3), keepdim=True)
    image = mean + (image - mean) * torch.exp(per_image(0.25))
    grey = image.mean(1, keepdim=True)
    saturation = 1 + per_image(0.35)
    saturation = torch.where(_uniform(generator, part, image, 1, 1, 1) > 0.9, torch.zeros_like(saturation), saturation)
    image = grey + (image - grey) * saturation
    sigma = 0.02 * strength * _uniform(generator, part, image, 1, 1, 1).clamp_min(0)
    noise = torch.randn(part.total, *image.shape[1:], generator=generator, device=generator.device)
    return (image + sigma * noise[part.start : part.stop].to(image.device)).clamp(0, 1)


def _uniform(generator: torch.Generator, part: Part, like: Tensor, *size: int) -> Tensor:
    """[rows of the part, *size] in ±1, on the device of `like`."""
    whole = torch.rand(part.total, *size, generator=generator, device=generator.device)
    return whole[part.start : part.stop].to(like.device) * 2 - 1
