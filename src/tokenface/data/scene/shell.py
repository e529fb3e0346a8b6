"""Shell surfaces around the scalp, hanging from its rim: base of hair, hats, hoods and scarves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.scene.anatomy import AZIMUTH, Placement
from tokenface.data.scene.parts import Shape, Topology, grid_coordinates, grid_faces

KNOTS = 9
"""The rim's height is given at nine azimuths on each side, from the middle of the forehead to the nape."""


@dataclass(frozen=True)
class ShellStyle:
    """Placement of a shell; every tensor is [B] unless said otherwise, metres in units of the head's size.

    rim: [B, 2, KNOTS] height of the rim above the nose bridge on the subject's right and left side.
    top, side, back: thickness.  edge: share of the thickness that is left at a rim that does not hang.
    bumps: [B, 1, 5, 9] relative unevenness of the thickness.  part: azimuth of a parting, radians.  part_depth: [0, 1].
    hang: length below the rim.  opening: azimuth from which it hangs, radians.  flare: sideways motion of the tips.
    wave: amplitude of waves along the hanging part.  closing: 1 wraps the hanging part under the chin (scarves).
    """

    rim: Tensor
    top: Tensor
    side: Tensor
    back: Tensor
    edge: Tensor
    bumps: Tensor
    part: Tensor
    part_depth: Tensor
    hang: Tensor
    opening: Tensor
    flare: Tensor
    wave: Tensor
    closing: Tensor


class Shell:
    """Topology of a shell and its vertices on a batch of heads."""

    def __init__(self, rows: int, hanging_rows: int):
        self.rows, self.hanging_rows = rows, hanging_rows
        total = rows + hanging_rows
        self.topology = Topology(grid_faces(total, AZIMUTH), grid_coordinates(total, AZIMUTH))

    def shape(self, place: Placement, style: ShellStyle) -> Shape:
        anatomy, unit = place.anatomy, place.unit
        batch = place.vertices.shape[0]
        azimuth = anatomy.azimuth
        turn = azimuth.abs()
        rim = _rim(place, style.rim)
        row = _row_of_height(anatomy.scalp_height, rim)  # [B, C]
        s = torch.linspace(0, 1, self.rows, device=row.device)
        base = _along_columns(place.scalp, s[None, :, None] * row[:, None, :])
        outward = F.normalize(base - place.skull[:, None, None], dim=-1)

        def per_column(x: Tensor) -> Tensor:
            return x[:, None, None]

        hanging = ((turn[None] - style.opening[:, None]) / 0.2).clamp(0, 1)
        hanging = hanging * hanging * (3 - 2 * hanging) * (style.hang > 0.004)[:, None]
        around = ((turn - 1.9) / 0.8).clamp(0, 1)
        sides = per_column(style.side) + (per_column(style.back) - per_column(style.side)) * around
        up = ((outward[..., 1] + 0.1) / 0.8).clamp(0, 1)
        thickness = sides + (per_column(style.top) - sides) * up
        bumps = F.interpolate(style.bumps, size=(self.rows, AZIMUTH), mode="bilinear", align_corners=True)[:, 0]
        seam = torch.cos(azimuth / 2).clamp(min=0).sqrt()  # first and last column are one: no unevenness there
        thickness = thickness * (1 + bumps * seam).clamp(min=0.2)
        gap = azimuth[None] - style.part[:, None]
        furrow = style.part_depth[:, None] * torch.exp(-((gap / 0.13) ** 2))
        thickness = thickness * (1 - furrow[:, None] * (s[None, :, None] * 6).clamp(max=1))
        kept = style.edge[:, None] + (0.85 - style.edge[:, None]).clamp(min=0) * hanging
        taper = 1 - (1 - kept[:, None]) * s[None, :, None] ** 5
        scalp = base + outward * (thickness * taper * unit)[..., None]

        end = scalp[:, -1:]
        hang = self._hang(place, style, end, hanging)
        vertices = torch.cat([scalp, hang], dim=1)
        tangents = F.normalize(torch.diff(vertices, dim=1, append=vertices[:, -1:]) + 1e-7, dim=-1)
        arc = 0.12 * unit * row[:, None] / 24 * (1 - s[None, :, None])
        length = style.hang[:, None] * hanging * unit
        t = torch.linspace(1, 0, self.hanging_rows + 1, device=row.device)[1:]
        # the front edge of hanging hair is ragged too, like its tips
        edge = torch.where(hanging > 0, 0.03 * unit * hanging, torch.inf)
        left = torch.minimum(length[:, None] * t[None, :, None], edge[:, None])
        to_end = torch.cat([arc + length[:, None], left], dim=1)
        return Shape(vertices.reshape(batch, -1, 3), tangents.reshape(batch, -1, 3), to_end.reshape(batch, -1))

    def _hang(self, place: Placement, style: ShellStyle, end: Tensor, hanging: Tensor) -> Tensor:
        """[B, hanging_rows, C, 3] rows that fall from the rim."""
        unit = place.unit
        t = torch.linspace(0, 1, self.hanging_rows + 1, device=end.device)[1:][None, :, None, None]
        down = torch.zeros_like(place.down)
        down[:, 1] = -1
        down = F.normalize(down + 0.6 * place.down, dim=-1)[:, None, None]
        length = (style.hang[:, None] * hanging * unit)[:, None, :, None]
        sideways = end - place.skull[:, None, None]
        sideways = F.normalize(sideways * constant([1.0, 0.0, 1.0], device=end.device), dim=-1)
        bend = style.flare[:, None, None, None] * t * t * length
        phase = place.anatomy.azimuth[None, None, :, None] * 5
        wave = (
            style.wave[:, None, None, None]
            * unit
            * torch.sin(14 * t * (0.5 + style.hang[:, None, None, None] * 4) + phase)
        )
        fallen = end + down * length * t + sideways * (bend + wave * (length > 0))
        # a scarf: the front edges meet under the chin
        chin = place.landmarks[:, 8][:, None, None] + unit * constant([0.0, -0.035, -0.005], device=end.device)
        front = torch.exp(-(((place.anatomy.azimuth.abs()[None] - style.opening[:, None]) / 0.55) ** 2))[
            :, None, :, None
        ]
        pull = style.closing[:, None, None, None] * front * hanging[:, None, :, None] * (t * 1.6).clamp(max=1) ** 1.5
        under = chin + down * (t - 0.6).clamp(min=0) * length
        return torch.lerp(fallen, under.expand_as(fallen), pull.expand_as(fallen))


def rim_azimuths(place: Placement) -> Tensor:
    """[KNOTS] radians: five up to the front of the ear, the ear, behind it, the side of the nape, the nape."""
    return _rim_azimuths(place.anatomy.landmarks, place.anatomy.skull)


@lru_cache(maxsize=16)
def _rim_azimuths(landmarks: Tensor, skull: Tensor) -> Tensor:
    """Once for each head model: the ear's angle is needed on the CPU."""
    ear = landmarks[16] - skull
    front_of_ear = math.degrees(math.atan2(float(ear[0]), float(ear[2])))
    degrees = [0, 0.4 * front_of_ear, 0.6 * front_of_ear, 0.8 * front_of_ear, front_of_ear, front_of_ear + 13]
    degrees += [front_of_ear + 28, front_of_ear + 45, 180]
    return torch.deg2rad(torch.tensor(degrees, device="cpu").to(landmarks.device))


def _rim(place: Placement, rim: Tensor) -> Tensor:
    """[B, 2, KNOTS] heights at the knots → [B, C] template heights at the columns."""
    knots = rim_azimuths(place)
    turn = place.anatomy.azimuth.abs().clamp(max=math.pi - 1e-4)
    upper = torch.searchsorted(knots, turn, right=True).clamp(1, KNOTS - 1)
    share = ((turn - knots[upper - 1]) / (knots[upper] - knots[upper - 1])).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    side = (place.anatomy.azimuth > 0).long()
    low, high = rim[:, side, upper - 1], rim[:, side, upper]
    return place.anatomy.landmarks[27, 1] + place.unit * torch.lerp(low, high, share)


def _row_of_height(height: Tensor, target: Tensor) -> Tensor:
    """Fractional table row at which each column comes down to a height: [R, C], [B, C] → [B, C]."""
    above = (height[None] > target[:, None]).sum(1).clamp(1, height.shape[0] - 1)
    high, low = height.gather(0, above - 1), height.gather(0, above)
    share = ((high - target) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return above - 1 + share


def _along_columns(table: Tensor, row: Tensor) -> Tensor:
    """table [B, R, C, 3] at fractional rows [B, n, C] → [B, n, C, 3]."""
    low = row.floor().clamp(max=table.shape[1] - 2)
    index = low.long()[..., None].expand(-1, -1, -1, 3)
    return torch.lerp(table.gather(1, index), table.gather(1, index + 1), (row - low)[..., None])
