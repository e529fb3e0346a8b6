"""Photo warping by a known change of shape or expression.

The head is rasterised with the parameters after the change, carrying the image positions before it as attributes: that
is the backward map inside the head. Outside, it is extended by normalised convolution (Knutsson and Westin 1993) and
fades. Light and shading are not changed, and nothing that the photo does not show is invented.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.geometry import rotations
from tokenface.geometry.batched_similarity import planar_similarity
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import interpolate, rasterize

FADE = 0.06
"""Standard deviation, as a share of the crop's side, with which the displacement fades outside the head."""
EXTENSION = ((1.0, 100.0), (0.3, 10.0), (0.1, 1.0))
"""Gaussians of the extrapolation: standard deviation over FADE, and weight. Narrow ones hold the edge together."""
INVERSION_ROUNDS = 8


class WarpedFaces(NamedTuple):
    """images: [B, 3, S, S], as if photographed after the change.

    flow: [B, S, S, 2] crop NDC: pixel p of the result shows what stood at p + flow.
    parameters: those after the change; the camera holds the 2-D similarity that was taken out of it.
    """

    images: Tensor
    flow: Tensor
    parameters: FaceParameters


@torch.no_grad()
def warp_faces(
    images: Tensor, head: HeadModel, before: FaceParameters, after: FaceParameters, *, map_size: int = 96
) -> WarpedFaces:
    """Pictures of faces `before` as pictures of faces `after`.

    The 2-D similarity that a change of shape brings to the projected face is folded into the camera, so that the face
    neither moves nor grows on the picture. Movement by expression and jaw stays as it is.

    Args:
        images: [B, 3, S, S].  head: on the device of the images.
        before: what the pictures show, as well as it is known.  after: with `before`'s pose; its camera is not read.
        map_size: pixels of the map that is rasterised; the flow is smooth, and a coarse one is enough.
    """
    size = images.shape[-1]
    camera = Camera.from_vector(before.camera)
    standing = head(before.shape, before.expression, before.jaw).vertices
    moved = head(after.shape, after.expression, after.jaw).vertices
    start = camera.project(standing)
    if not torch.equal(after.shape, before.shape):
        same = torch.equal(after.expression, before.expression) and torch.equal(after.jaw, before.jaw)
        shaped = moved if same else head(after.shape, before.expression, before.jaw).vertices
        face = _face_vertices(head)
        camera = _without_similarity(camera, camera.project(shaped)[:, face, :2], start[:, face, :2])
    end = camera.project(moved)
    fragments = rasterize(end, head.faces, map_size, map_size)
    attributes = torch.cat([(start - end)[..., :2], _skin(head).expand(len(start), -1, 1)], dim=-1)
    drawn = interpolate(fragments, attributes, head.faces).permute(0, 3, 1, 2)
    coarse = _extended(drawn[:, :2], (drawn[:, 2:] > 0.5).to(images.dtype), fragments.mask[:, None].to(images.dtype))
    flow = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    grid = pixel_grid(size, images.device) + flow
    warped = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return WarpedFaces(warped, flow, after.replace(camera=camera.to_vector()))


@torch.no_grad()
def move_points(flow: Tensor, points: Tensor) -> Tensor:
    """Points of the original image in the warped one, by fixed-point inversion of the backward map.

    Args:
        flow: [B, S, S, 2] of `warp_faces`.  points: [B, K, 2], crop NDC.
    Returns:
        [B, K, 2], crop NDC.
    """
    field = flow.permute(0, 3, 1, 2)
    found = points
    for _ in range(INVERSION_ROUNDS):
        at = F.grid_sample(field, found[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
        found = points - at[..., 0].transpose(1, 2)
    return found


def pixel_grid(size: int, device: torch.device | str | None = None) -> Tensor:
    """[size, size, 2] crop NDC (x, y) of the pixel centres."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1
    return torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)


def _face_vertices(head: HeadModel) -> Tensor:
    face = head.data.face_vertices()
    return torch.as_tensor(np.arange(head.vertex_count) if face is None else face, device=head.template.device)


def _skin(head: HeadModel) -> Tensor:
    """[V, 1]: 0 in the mouth's interior, which lips uncover and tear; its flow is filled in from around it."""
    skin = torch.ones(head.vertex_count, 1, device=head.template.device)
    skin[torch.as_tensor(np.array(head.data.regions.get("mouth_interior", ()), dtype=np.int64))] = 0
    return skin


def _without_similarity(camera: Camera, source: Tensor, target: Tensor) -> Camera:
    """The camera after which the points [B, K, 2] that it projects to `source` lie as near `target` as can be.

    A 2-D similarity of the picture is a scale, a turn about the line of sight and a shift of a scaled-orthographic
    camera, exactly.
    """
    up = source.new_tensor([1.0, -1.0])  # y up, as the camera's own
    found = planar_similarity(source * up, target * up)
    factor = torch.complex(found[:, 0, 0], found[:, 1, 0])
    growth, angle = factor.abs(), factor.angle()
    zero = torch.zeros_like(angle)
    turn = rotations.rotvec_to_rotmat(torch.stack([zero, zero, angle], dim=-1))
    place = factor * torch.complex(camera.translation[:, 0], camera.translation[:, 1])
    place = place + torch.complex(found[:, 0, 2], found[:, 1, 2])
    return Camera(
        camera.scale * growth,
        rotations.rotmat_to_rotvec(turn @ camera.rotation_matrix()),
        torch.stack([place.real, place.imag, camera.translation[:, 2] * growth], dim=-1),
    )


def _extended(displacement: Tensor, known: Tensor, inside: Tensor) -> Tensor:
    """[B, 2, M, M], given where `known` [B, 1, M, M] is 1, carried on elsewhere and faded outside of `inside`."""
    spread = FADE * inside.shape[-1]
    layers = torch.cat([displacement * known, known], dim=1)
    total = torch.zeros_like(layers)
    for share, weight in EXTENSION:
        total = total + weight * _blurred(layers, max(share * spread, 0.6))
    mean = total[:, :2] / total[:, 2:].clamp(min=1e-6)
    fade = (2 * _blurred(inside, spread)).clamp(max=1)  # a straight edge blurs to one half: 1 there, falling outwards
    return torch.where(known > 0, displacement, mean * torch.maximum(fade, inside))


def _blurred(layers: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of [B, C, M, M], zero beyond the border."""
    radius = math.ceil(3 * deviation)
    steps = torch.arange(-radius, radius + 1, dtype=layers.dtype, device=layers.device)
    kernel = torch.exp(-0.5 * (steps / deviation) ** 2)
    kernel = kernel / kernel.sum()
    flat = layers.flatten(0, 1)[:, None]
    flat = F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, radius))
    flat = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return flat.view_as(layers)
