"""Meshes appended to a head, and their surface materials."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tokenface.core.device import constant


@dataclass(frozen=True)
class Shape:
    """One appended mesh of a batch.

    vertices: [B, n, 3], head space, metres.  tangents: [B, n, 3] along hair or cloth, unit length; None: not needed.
    end: [B, n] metres to the nearest free end (hair tips dissolve there); None: no free end.
    """

    vertices: Tensor
    tangents: Tensor | None = None
    end: Tensor | None = None


@dataclass(frozen=True)
class Topology:
    """Topology of an appended mesh, shared by the batch. faces: [m, 3].  coordinates: [n, 2] texture coordinates."""

    faces: Tensor
    coordinates: Tensor


@dataclass(frozen=True)
class Look:
    """Appearance of one part per picture; every tensor is [B, ...].

    colour, second: [B, 3] sRGB; the noise texture mixes from one to the other.  contrast: [B].
    frequency: [B, 2] texture periods per coordinate unit.  layer: [B] layer of the noise bank.
    gloss: [B] strength of highlights.  sheen: [B] 1 where highlights run across strands (hair).
    alpha: [B] opacity.  ragged: [B] metres over which a free end dissolves into strands.
    """

    colour: Tensor
    second: Tensor
    contrast: Tensor
    frequency: Tensor
    layer: Tensor
    gloss: Tensor
    sheen: Tensor
    alpha: Tensor
    ragged: Tensor

    @staticmethod
    def plain(colour: Tensor, **changes: Tensor) -> Look:
        """An opaque matt surface of one colour [B, 3]; name what differs."""
        zero = torch.zeros_like(colour[:, 0])
        values: dict[str, Tensor] = {
            "colour": colour,
            "second": colour * 0.8,
            "contrast": zero,
            "frequency": torch.ones_like(colour[:, :2]),
            "layer": zero.long(),
            "gloss": zero,
            "sheen": zero,
            "alpha": zero + 1,
            "ragged": zero,
        }
        return Look(**{**values, **changes})

    @staticmethod
    def stack(looks: list[Look]) -> Look:
        """P looks [B, ...] → one of [B, P, ...]."""
        return Look(**{f.name: torch.stack([getattr(look, f.name) for look in looks], dim=1) for f in fields(Look)})


def grid_faces(rows: int, columns: int) -> Tensor:
    """Triangles of a rows × columns grid of vertices, [2 (rows−1)(columns−1), 3]."""
    index = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return torch.cat([torch.stack([a, c, b], -1).reshape(-1, 3), torch.stack([b, c, d], -1).reshape(-1, 3)])


def grid_coordinates(rows: int, columns: int) -> Tensor:
    """[rows · columns, 2] in [0, 1]: first along the columns, second along the rows."""
    u = torch.linspace(0, 1, columns).expand(rows, columns)
    v = torch.linspace(0, 1, rows)[:, None].expand(rows, columns)
    return torch.stack([u, v], dim=-1).reshape(-1, 2)


def hide(vertices: Tensor, shown: Tensor) -> Tensor:
    """Vertices [B, n, 3] of pictures where shown [B] is false shrink to one point (no pixel is covered)."""
    return torch.where(shown[:, None, None], vertices, vertices[:, :1])


def ellipsoid(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit sphere as a grid: vertices [n, 3], faces, coordinates; the pole is +y."""
    coordinates = grid_coordinates(rows, columns)
    azimuth, polar = coordinates[:, 0] * 2 * torch.pi, coordinates[:, 1] * torch.pi
    vertices = torch.stack(
        [torch.sin(polar) * torch.sin(azimuth), torch.cos(polar), torch.sin(polar) * torch.cos(azimuth)], dim=1
    )
    return vertices, grid_faces(rows, columns), coordinates


def frame_from_axis(axis: Tensor) -> Tensor:
    """[B, 3] directions → rotations [B, 3, 3] whose second column is the direction."""
    y = torch.nn.functional.normalize(axis, dim=-1)
    helper = torch.where(
        y[:, 2:].abs() < 0.9,
        constant([0.0, 0.0, 1.0], device=y.device),
        constant([1.0, 0.0, 0.0], device=y.device),
    )
    x = torch.nn.functional.normalize(torch.linalg.cross(y, helper), dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def repeat_rows(record: Any, rows: Tensor) -> Any:
    """The same (nested) dataclass with every tensor indexed by rows."""
    values = {}
    for name, value in vars(record).items():
        values[name] = value[rows] if isinstance(value, Tensor) else repeat_rows(value, rows)
    return type(record)(**values)
