"""Anatomy of a head model measured on its mean head, and its placement in a batch of posed heads."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel

POLAR, AZIMUTH = 56, 65
"""Rows and columns of the scalp table; the first column and the last one meet at the back of the head."""
MAX_POLAR = math.radians(165)
TILT = math.radians(18)
"""The whorl sits behind the top of the head."""
INSIDE = ("teeth", "gum", "tongue", "mouth_interior", "mouth_socket", "mouth_inner", "oral")


@dataclass(frozen=True)
class Anatomy:
    """Facts of one head model. Points are on its mean head, head space, metres.

    unit: outer eye distance over 0.09 m.  landmarks: [68, 3].  eyeball: [V] bool.
    inside: [V] bool, mouth interior; teeth: [V] bool, part of it.
    face: [V] bool, skin that a face mask covers.  skull: [3] centre of the cranium.  azimuth: [C], 0 is the front.
    scalp_corners: [R, C, 3] vertices, scalp_barycentrics: [R, C, 3]: where rays from the skull's centre leave the head.
    scalp_height: [R, C] their y.  neck_ring: [K] vertices around the neck at a collar's height.
    """

    unit: float
    landmarks: Tensor
    eyeball: Tensor
    inside: Tensor
    teeth: Tensor
    face: Tensor
    skull: Tensor
    azimuth: Tensor
    scalp_corners: Tensor
    scalp_barycentrics: Tensor
    scalp_height: Tensor
    neck_ring: Tensor

    def to(self, device: torch.device | str) -> Anatomy:
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "unit"}
        return replace(self, **moved)

    @staticmethod
    def of(head: HeadModel) -> Anatomy:
        data = head.data
        template = head.template.detach().cpu()
        landmarks = head.landmarks68(head.template[None])[0].cpu()
        unit = float((landmarks[45] - landmarks[36]).norm() / 0.09)
        eyeball, inside = _eyeballs(data), _inside(data)
        outer = ~(eyeball | inside)
        skull = _skull_centre(template[outer], landmarks)
        azimuth = torch.linspace(-math.pi, math.pi, AZIMUTH)
        corners, weights = _scalp(
            template, torch.as_tensor(data.faces.astype(np.int64)), outer & ~_ears(data), skull, azimuth
        )
        height = (template[corners] * weights[..., None]).sum(2)[..., 1]
        # collars sit a little below the chin; some heads end there, others have shoulders
        collar = torch.maximum(template[outer, 1].amin() + 0.012 * unit, landmarks[33, 1] - 0.105 * unit)
        return Anatomy(
            unit=unit,
            landmarks=landmarks,
            eyeball=eyeball,
            inside=inside,
            teeth=_named(data, "teeth"),
            face=_face(data, template, landmarks) & ~inside,
            skull=skull,
            azimuth=azimuth,
            scalp_corners=corners,
            scalp_barycentrics=weights,
            scalp_height=torch.cummin(height, 0).values,
            neck_ring=torch.nonzero(outer & ((template[:, 1] - collar).abs() < 0.012 * unit))[:, 0],
        )


def _named(data: HeadData, *words: str, without: tuple[str, ...] = ()) -> Tensor:
    """[V] bool: vertices of every region whose name holds one of the words."""
    mask = torch.zeros(data.template.shape[0], dtype=torch.bool)
    for name, indices in data.regions.items():
        low = name.lower()
        if any(w in low for w in words) and not any(w in low for w in without):
            mask[torch.as_tensor(indices.astype(np.int64))] = True
    return mask


def _eyeballs(data: HeadData) -> Tensor:
    named = _named(data, "eyeball")
    if named.any():
        return named
    return torch.as_tensor(data.skinning_weights[:, 3:].sum(1) > 0.95)


def _inside(data: HeadData) -> Tensor:
    return _named(data, *INSIDE)


def _ears(data: HeadData) -> Tensor:
    named = {n: v for n, v in data.regions.items() if n.lower() in ("ear", "ears") or "ear_" in f"{n.lower()}_"}
    mask = torch.zeros(data.template.shape[0], dtype=torch.bool)
    for name, indices in named.items():
        if name.lower().replace("left", "").replace("right", "").strip("_") in ("ear", "ears"):
            mask[torch.as_tensor(indices.astype(np.int64))] = True
    return mask


def _face(data: HeadData, template: Tensor, landmarks: Tensor) -> Tensor:
    exact = [data.regions[n] for n in ("face",) if n in data.regions]
    if exact:
        mask = torch.zeros(template.shape[0], dtype=torch.bool)
        mask[torch.as_tensor(exact[0].astype(np.int64))] = True
        return mask
    top = landmarks[27, 1] + 0.9 * (landmarks[27, 1] - landmarks[33, 1])
    back = landmarks[[0, 16], 2].mean()
    return (template[:, 1] > landmarks[8, 1] - 0.005) & (template[:, 1] < top) & (template[:, 2] > back)


def _skull_centre(outer: Tensor, landmarks: Tensor) -> Tensor:
    cranium = outer[outer[:, 1] > landmarks[27, 1]]
    middle = (cranium.amin(0) + cranium.amax(0)) / 2
    return torch.stack([torch.zeros(()), landmarks[27, 1] + 0.01, middle[2]])


def scalp_directions(polar: Tensor, azimuth: Tensor) -> Tensor:
    """Unit vectors [..., 3] of polar angle from the whorl and azimuth from the front, radians."""
    x = torch.sin(polar) * torch.sin(azimuth)
    y = torch.cos(polar)
    z = torch.sin(polar) * torch.cos(azimuth)
    return torch.stack([x, math.cos(TILT) * y + math.sin(TILT) * z, math.cos(TILT) * z - math.sin(TILT) * y], dim=-1)


def _scalp(template: Tensor, faces: Tensor, outer: Tensor, skull: Tensor, azimuth: Tensor) -> tuple[Tensor, Tensor]:
    """Outermost triangle that each ray from the skull's centre meets; nearest vertex by angle where there is none."""
    polar = torch.linspace(0.02, MAX_POLAR, POLAR)
    corners, weights = torch.empty(POLAR, AZIMUTH, 3, dtype=torch.long), torch.empty(POLAR, AZIMUTH, 3)
    directions = F.normalize(template - skull, dim=1)
    whorl = scalp_directions(torch.zeros(()), torch.zeros(()))
    angle = torch.acos((directions @ whorl).clamp(-1, 1))
    usable = faces[outer[faces].all(1)]
    reach = angle[usable]
    low, high = reach.amin(1) - 0.06, reach.amax(1) + 0.06  # a triangle's inside may lie beyond its corners
    low = torch.where(low < 0.1, torch.zeros(()), low)
    visible = torch.where(outer[:, None], directions, torch.zeros(()))
    for row in range(POLAR):
        near = usable[(low <= polar[row]) & (polar[row] <= high)]
        rays = scalp_directions(polar[row].expand(AZIMUTH), azimuth)
        fallback = (rays @ visible.T).argmax(1)
        corners[row] = fallback[:, None]
        weights[row] = torch.tensor([1.0, 0.0, 0.0])
        if len(near):
            found, triangle, barycentrics = _outermost_hits(rays, template[near] - skull)
            corners[row] = torch.where(found[:, None], near[triangle], corners[row])
            weights[row] = torch.where(found[:, None], barycentrics, weights[row])
    return corners, weights


def _outermost_hits(rays: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Möller and Trumbore's test of rays [R, 3] from the origin with triangles [T, 3, 3]: found [R] bool, the farthest
    triangle hit [R], barycentrics [R, 3]."""
    a, edge1, edge2 = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    p = torch.linalg.cross(rays[:, None], edge2[None])
    determinant = (edge1 * p).sum(-1)
    parallel = determinant.abs() < 1e-12
    safe = torch.where(parallel, torch.ones(()), determinant)
    u = -(a * p).sum(-1) / safe
    q = torch.linalg.cross(-a, edge1)
    v = (rays @ q.T) / safe
    distance = (edge2 * q).sum(-1) / safe
    hit = ~parallel & (u >= -1e-5) & (v >= -1e-5) & (u + v <= 1 + 1e-5) & (distance > 0)
    farthest, triangle = torch.where(hit, distance, torch.full((), -1.0)).max(1)
    rows = torch.arange(len(rays))
    u, v = u[rows, triangle], v[rows, triangle]
    return farthest > 0, triangle, torch.stack([1 - u - v, u, v], dim=1)


@dataclass(frozen=True)
class Placement:
    """Everything in head space, metres.

    vertices: [B, V, 3].  landmarks: [B, 68, 3].  scalp: [B, R, C, 3] points where the table's rays leave the head.
    skull: [B, 3].  rotation: [B, 3, 3] head space to camera space.  down: [B, 3] gravity.
    """

    anatomy: Anatomy
    vertices: Tensor
    landmarks: Tensor
    scalp: Tensor
    skull: Tensor
    rotation: Tensor

    @staticmethod
    def of(anatomy: Anatomy, vertices: Tensor, landmarks: Tensor, rotation: Tensor) -> Placement:
        corners = anatomy.scalp_corners.flatten()
        weights = anatomy.scalp_barycentrics
        points = vertices[:, corners].view(vertices.shape[0], *weights.shape, 3)
        scalp = (points * weights[..., None]).sum(3)
        upper = scalp[:, : scalp.shape[1] // 2]
        skull = (upper.amin((1, 2)) + upper.amax((1, 2))) / 2
        skull = torch.stack([skull[:, 0], landmarks[:, 27, 1] + 0.01 * anatomy.unit, skull[:, 2]], dim=1)
        return Placement(anatomy, vertices, landmarks, scalp, skull, rotation)

    @property
    def down(self) -> Tensor:
        return -self.rotation[:, 1]

    @property
    def unit(self) -> float:
        return self.anatomy.unit

    @property
    def third(self) -> Tensor:
        """[B] bridge to nose base, metres: a third of the face is about this long."""
        return self.landmarks[:, 27, 1] - self.landmarks[:, 33, 1]
