"""Vertex subsets of a head: what a scanner sees, and what landmark and vertex losses need."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel, on_triangles
from tokenface.head.registration import SOCKETS, Layers
from tokenface.parameters import FaceParameters

LASHES = ("lashes", "eyelashes", "left_lashes", "right_lashes")


def visible_skin(head: HeadData) -> np.ndarray:
    """[P] numbers of the vertices that are skin and can be seen: no eyeballs, eye sockets, lashes, nothing of the
    mouth's inside. Models that do not name such parts keep them (FLAME has no mouth to leave out)."""
    shown = Layers.of(head).skin.copy()
    for name in SOCKETS + LASHES:
        if name in head.regions:
            shown[head.regions[name]] = False
    return np.flatnonzero(shown)


class VertexSubset:
    """Vertices of all landmark triangles plus any others, evaluated together in one small product.

    Args:
        head: the whole head model.
        extra: [K] further vertex indices (a sample of the face for the vertex losses).
        mesh468: the face mesh's points too, which are most of the vertices.
    """

    def __init__(self, head: HeadModel, extra: Tensor | None = None, *, mesh468: bool = True):
        self.head = head
        triangles = [head.static_faces, head.contour_faces.flatten()]
        if mesh468 and head.mesh468_faces is not None:
            triangles.append(head.mesh468_faces[head.mesh468_faces >= 0])
        wanted = head.faces[torch.cat(triangles)].flatten()
        if extra is not None:
            wanted = torch.cat([wanted, extra.to(wanted.device)])
        self.indices = torch.unique(wanted)
        position = torch.full((head.vertex_count,), -1, dtype=torch.long, device=wanted.device)
        position[self.indices] = torch.arange(len(self.indices), device=wanted.device)
        self.position = position
        self._part = head.restricted_to(self.indices)

    def vertices(self, parameters: FaceParameters) -> Tensor:
        """[B, K, 3] posed vertices, head space, metres."""
        p = parameters
        return self._part(p.shape, p.expression, p.jaw).vertices

    def neutral(self, shape: Tensor) -> Tensor:
        """[B, K, 3] vertices of the person's neutral face."""
        return self._part(shape).vertices

    def landmarks68(self, vertices: Tensor, yaw: Tensor | None = None) -> Tensor:
        """[B, K, 3] subset vertices → [B, 68, 3]."""
        return self.head.landmarks68(vertices, yaw, position=self.position)

    def landmarks468(self, vertices: Tensor) -> Tensor:
        """[B, K, 3] subset vertices, made with `mesh468`, → [B, 468, 3]."""
        corners = self.position[self.head.faces[self.head.mesh468_faces.clamp(min=0)]].clamp(min=0)
        return on_triangles(vertices, corners, self.head.mesh468_barycentrics)
