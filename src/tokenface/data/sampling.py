"""Samplers of a synthetic image: person, pose, framing, camera distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw
from tokenface.geometry import rotations


@dataclass(frozen=True)
class PoseRange:
    """Mixture of head turns in degrees: mostly frontal, some three-quarter, some up to and past profile."""

    frontal: float = 0.5
    turned: float = 0.35
    frontal_yaw: float = 16.0
    turned_yaw: float = 60.0
    profile_yaw: float = 95.0
    pitch: float = 10.0
    wide_pitch: float = 35.0
    roll: float = 7.0
    wide_roll: float = 40.0


@dataclass(frozen=True)
class Framing:
    """Framing of a face in a crop: crop side over landmark box (`(w+h)/2 · 1.1`); random shift, and how far the face
    lies below the middle, both in crop half-widths."""

    zoom: tuple[float, float] = (1.2, 1.85)
    shift: float = 0.06
    lowered: float = 0.0


@dataclass(frozen=True)
class View:
    """A perspective camera in front of a head.

    rotation: [B, 3, 3] head space to camera space.  scale: [B] crop half-widths per metre at the face's depth.
    translation: [B, 2] crop NDC, y up.  distance: [B] metres from the lens to the face.  depth: [B] camera-space z of
    the face, metres: what lies there is drawn at `scale`.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    distance: Tensor
    depth: Tensor

    def project(self, vertices: Tensor) -> Tensor:
        """Head space [B, V, 3], metres, to crop NDC [B, V, 3]: x right, y down, z depth (smaller is nearer)."""
        p = vertices @ self.rotation.transpose(1, 2)
        offset = p[..., 2] - self.depth[:, None]
        # things beside the lens (a raised hand, a chest) must not flip through infinity
        magnified = self.scale[:, None] * self.distance[:, None] / (self.distance[:, None] - offset).clamp(min=0.05)
        x = magnified * p[..., 0] + self.translation[:, :1]
        y = magnified * p[..., 1] + self.translation[:, 1:]
        return torch.stack([x, -y, -self.scale[:, None] * p[..., 2]], dim=-1)


def sample_rotations(draw: Draw, batch: int, poses: PoseRange) -> Tensor:
    """[B, 3, 3] head rotations; angles as `Camera.angles` (yaw right, pitch up, roll anticlockwise)."""
    kind = draw.pick(batch, [poses.frontal, poses.turned, max(1 - poses.frontal - poses.turned, 0)])
    yaw = torch.stack(
        [
            draw.normal(batch, std=poses.frontal_yaw),
            draw.uniform(batch, low=-poses.turned_yaw, high=poses.turned_yaw),
            draw.uniform(batch, low=-poses.profile_yaw, high=poses.profile_yaw),
        ],
        dim=1,
    ).gather(1, kind[:, None])[:, 0]
    wide = draw.chance(batch, p=0.12)
    pitch = torch.where(
        wide,
        draw.uniform(batch, low=-poses.wide_pitch, high=poses.wide_pitch),
        draw.normal(batch, std=poses.pitch).clamp(-poses.wide_pitch, poses.wide_pitch),
    )
    tilted = draw.chance(batch, p=0.08)
    roll = torch.where(
        tilted,
        draw.uniform(batch, low=-poses.wide_roll, high=poses.wide_roll),
        draw.normal(batch, std=poses.roll),
    )
    return rotation_from_angles(torch.deg2rad(yaw), torch.deg2rad(pitch), torch.deg2rad(roll))


def rotation_from_angles(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """[B] radians → [B, 3, 3]: look up, turn, then roll in the picture plane."""
    axes = torch.eye(3, device=yaw.device)
    turn = rotations.rotvec_to_rotmat(yaw[:, None] * axes[1])
    look = rotations.rotvec_to_rotmat(-pitch[:, None] * axes[0])
    tilt = rotations.rotvec_to_rotmat(roll[:, None] * axes[2])
    return tilt @ turn @ look


def sample_distances(draw: Draw, batch: int) -> Tensor:
    """[B] metres from lens to face: selfies at arm's length, rooms, and long lenses (uniform in dioptres)."""
    near = draw.chance(batch, p=0.35)
    dioptres = torch.where(near, draw.uniform(batch, low=0.6, high=2.6), draw.uniform(batch, low=0.08, high=0.7))
    return 1 / dioptres


def frame_faces(draw: Draw, points: Tensor, rotation: Tensor, distance: Tensor, framing: Framing) -> View:
    """The camera whose crop holds the landmarks as a detector's crop would.

    Args:
        points: [B, 68, 3] landmarks, head space, metres.
    """
    batch = points.shape[0]
    zero = torch.zeros(batch, device=points.device)
    depth = (points @ rotation.transpose(1, 2))[..., 2].mean(1)
    unit = View(rotation, zero + 1, zero[:, None].expand(batch, 2), distance, depth)
    seen = unit.project(points)[..., :2]
    low, high = seen.amin(1), seen.amax(1)
    side = (high - low).mean(-1) * 1.1
    zoom = draw.uniform(batch, low=framing.zoom[0], high=framing.zoom[1])
    scale = 2 / (side * zoom)
    shift = draw.normal(batch, 2, std=framing.shift).clamp(-3 * framing.shift, 3 * framing.shift)
    centre = (low + high) / 2 * scale[:, None]
    translation = torch.stack([shift[:, 0] - centre[:, 0], centre[:, 1] - shift[:, 1] - framing.lowered], dim=1)
    return View(rotation, scale, translation, distance, depth)


def best_orthographic(view: View, points: Tensor) -> Tensor:
    """The paper's camera that explains a perspective view best.

    Rotation is the true one; scale and translation are the least-squares fit of the projected points.

    Args:
        points: [B, N, 3] head space, metres.
    Returns:
        [B, 7] camera component.
    """
    seen = view.project(points)[..., :2] * constant([1.0, -1.0], device=points.device)
    flat = (points @ view.rotation.transpose(1, 2))[..., :2]
    seen_mean, flat_mean = seen.mean(1, keepdim=True), flat.mean(1, keepdim=True)
    scale = ((seen - seen_mean) * (flat - flat_mean)).sum((1, 2)) / (flat - flat_mean).square().sum((1, 2))
    translation = (seen_mean - scale[:, None, None] * flat_mean)[:, 0]
    rotation = rotations.rotmat_to_rotvec(view.rotation)
    return torch.cat([scale[:, None], rotation, translation, torch.zeros_like(scale[:, None])], dim=1)


def rotate_towards(rotation: Tensor, share: Tensor) -> Tensor:
    """[B, 3, 3] rotations scaled by share [B] of their angle (a body follows its head part of the way)."""
    vector = rotations.rotmat_to_rotvec(rotation)
    angle = vector.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return rotations.rotvec_to_rotmat(vector / angle * angle.clamp(max=math.pi) * share[:, None])
