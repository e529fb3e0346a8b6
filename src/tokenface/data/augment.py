"""Batched augmentation of labelled crops: similarity, colour, mirroring."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera
from tokenface.geometry.landmarks import MIRROR68
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters


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


FLIP = (-1.0, 1.0, 1.0)
CAMERA = (1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
"""Signs of the camera's numbers: turns about y and z, and the place across, are reversed."""
JAW = (1.0, -1.0, -1.0)
LIGHT = (1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
"""Signs of the harmonics [1, x, y, z, xy, xz, yz, x² − y², 3z² − 1]: those odd in x are reversed."""


class Mirror:
    """Of one head model, whose modes are symmetric or not and whose actions come in pairs of left and right."""

    def __init__(self, head: HeadModel):
        partner = torch.as_tensor(head.data.mirror.copy(), dtype=torch.int64)
        modes = head.basis[: head.sizes.shape].cpu()
        reflected = (modes * modes.new_tensor(FLIP))[:, partner]
        self.shape = torch.einsum("mvc,mvc->m", modes, reflected).sign()  # [S]: 1 of symmetric modes, −1 of others
        self.expression = torch.tensor(_partners(head.expression_names))

        self.texture = _flipped_albedo(head) if head.sizes.texture else None

    def parameters(self, faces: FaceParameters) -> FaceParameters:
        """Of the mirrored pictures; an albedo whose mirror image the modes lack becomes the nearest that they have."""
        device, dtype = faces.light.device, faces.light.dtype
        light = faces.light.unflatten(-1, (9, 3)) * constant(LIGHT, device, dtype)[:, None]
        return faces.replace(
            shape=faces.shape * placed(self.shape, device).to(dtype),
            expression=faces.expression.index_select(1, placed(self.expression, device)),
            jaw=faces.jaw * constant(JAW, device, dtype),
            camera=faces.camera * constant(CAMERA, device, dtype),
            texture=faces.texture if self.texture is None else faces.texture @ placed(self.texture, device).to(dtype),
            light=light.flatten(-2),
        )

    def rows(
        self, chosen: Tensor, image: Tensor, points: Tensor, faces: FaceParameters
    ) -> tuple[Tensor, Tensor, FaceParameters]:
        """Pictures [B, 3, S, S], 68 points [B, 68, 2] and parameters, mirrored where `chosen` [B]."""

        def either(mirrored: Tensor, own: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (own.dim() - 1)), mirrored, own)

        other = self.parameters(faces)
        mixed = {name: either(getattr(other, name), value) for name, value in faces.items()}
        flipped = points.index_select(1, constant(MIRROR68, points.device)) * constant(
            [-1.0, 1.0], points.device, points.dtype
        )
        return either(image.flip(-1), image), either(flipped, points), FaceParameters(**mixed)


def _flipped_albedo(head: HeadModel) -> Tensor:
    """[A, A]: coefficients times it are those of the map's mirror image, as near as the modes come (least squares)."""
    assert head.data.albedo_basis is not None
    modes = np.asarray(head.data.albedo_basis[: head.sizes.texture], np.float32)
    if head.data.albedo_scale is not None:
        modes = modes * np.asarray(head.data.albedo_scale[: len(modes)], np.float32)[:, None, None, None]
    flat, flipped = modes.reshape(len(modes), -1), modes[:, :, ::-1].reshape(len(modes), -1)
    return torch.from_numpy(np.linalg.solve(flat @ flat.T, flat @ flipped.T).T.copy())


def _partners(names: tuple[str, ...]) -> list[int]:
    """The action of the other side for each; itself where there is none."""
    swapped = [name.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right") for name in names]
    return [names.index(name) if name in names else own for own, name in enumerate(swapped)]
