"""Where things are on a head model: measured once on its mean head, so that any topology can wear hair and glasses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
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

    unit: outer eye distance over 0.09 m.  landmarks: [68, 3].  eyeball: [V] bool.  inside: [V] bool, mouth interior.
    face: [V] bool, skin that a face mask covers.  skull: [3] centre of the cranium.  azimuth: [C], 0 is the front.
    scalp_corners: [R, C, 3] vertices, scalp_barycentrics: [R, C, 3]: where rays from the skull's centre leave the head.
    scalp_height: [R, C] their y.  neck_ring: [K] lowest vertices.
    """

    unit: float
    landmarks: Tensor
    eyeball: Tensor
    inside: Tensor
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
        landmarks = head.landmarks68(template[None])[0]
        unit = float((landmarks[45] - landmarks[36]).norm() / 0.09)
        eyeball, inside = _eyeballs(data), _inside(data)
        outer = ~(eyeball | inside)
        skull = _skull_centre(template[outer], landmarks)
        azimuth = torch.linspace(-math.pi, math.pi, AZIMUTH)
        corners, weights = _scalp(
            template, torch.as_tensor(data.faces.astype(np.int64)), outer & ~_ears(data), skull, azimuth
        )
        height = (template[corners] * weights[..., None]).sum(2)[..., 1]
        lowest = template[outer, 1].amin()
        return Anatomy(
            unit=unit,
            landmarks=landmarks,
            eyeball=eyeball,
            inside=inside,
            face=_face(data, template, landmarks) & ~inside,
            skull=skull,
            azimuth=azimuth,
            scalp_corners=corners,
            scalp_barycentrics=weights,
            scalp_height=torch.cummin(height, 0).values,
            neck_ring=torch.nonzero(outer & (template[:, 1] < lowest + 0.02 * unit))[:, 0],
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
    rays = scalp_directions(polar[:, None].expand(POLAR, AZIMUTH), azimuth.expand(POLAR, AZIMUTH)).reshape(-1, 3)
    usable = faces[outer[faces].all(1)]
    a, b, c = (template[usable[:, k]] - skull for k in range(3))
    corners = torch.empty(rays.shape[0], 3, dtype=torch.long)
    weights = torch.empty(rays.shape[0], 3)
    edge1, edge2 = b - a, c - a
    directions = torch.nn.functional.normalize(template - skull, dim=1)
    directions = torch.where(outer[:, None], directions, torch.zeros(()))
    for start in range(0, rays.shape[0], 256):
        d = rays[start : start + 256, None]
        p = torch.linalg.cross(d, edge2[None].expand(d.shape[0], -1, -1))
        det = (edge1 * p).sum(-1)
        safe = torch.where(det.abs() < 1e-12, torch.ones(()), det)
        u = -(a * p).sum(-1) / safe
        q = torch.linalg.cross(-a, edge1)[None]
        v = (d * q).sum(-1) / safe
        t = (edge2 * q).sum(-1) / safe
        hit = (det.abs() >= 1e-12) & (u >= -1e-5) & (v >= -1e-5) & (u + v <= 1 + 1e-5) & (t > 0)
        distance, triangle = torch.where(hit, t, torch.full((), -1.0)).max(1)
        rows = torch.arange(d.shape[0])
        uu, vv = u[rows, triangle], v[rows, triangle]
        nearest = (d[:, 0] @ directions.T).argmax(1)
        found = distance > 0
        corners[start : start + 256] = torch.where(found[:, None], usable[triangle], nearest[:, None].expand(-1, 3))
        bary = torch.stack([1 - uu - vv, uu, vv], dim=1)
        weights[start : start + 256] = torch.where(found[:, None], bary, torch.tensor([1.0, 0.0, 0.0]))
    return corners.view(POLAR, AZIMUTH, 3), weights.view(POLAR, AZIMUTH, 3)
