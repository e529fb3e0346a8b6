"""Shoulders and clothes: jackets, shirts, ties, open collars."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.data.draw import Draw
from tokenface.data.noise import LAYERS
from tokenface.data.sampling import rotate_towards
from tokenface.data.scene.anatomy import Placement
from tokenface.data.scene.parts import Look, Shape, Topology, grid_coordinates, grid_faces, hide
from tokenface.geometry import rotations

CLOTH_COLOURS = torch.tensor(
    [
        [0.04, 0.04, 0.05], [0.09, 0.10, 0.15], [0.22, 0.22, 0.24], [0.45, 0.45, 0.46], [0.9, 0.9, 0.89],
        [0.75, 0.72, 0.66], [0.35, 0.08, 0.09], [0.70, 0.14, 0.14], [0.12, 0.20, 0.45], [0.55, 0.68, 0.85],
        [0.10, 0.28, 0.16], [0.42, 0.33, 0.22], [0.80, 0.65, 0.20], [0.55, 0.25, 0.5], [0.85, 0.5, 0.55],
    ]
)  # fmt: skip
CLOTH_WEIGHTS = (3.0, 2.2, 1.5, 1.0, 1.6, 0.8, 0.5, 0.5, 0.8, 0.5, 0.3, 0.5, 0.2, 0.25, 0.3)

# Half-width, half-depth, drop and forward shift of an adult's shoulders below the neck, metres
PROFILE = torch.tensor(
    [
        [0.066, 0.066, -0.016, 0.000], [0.066, 0.068, 0.000, 0.000], [0.085, 0.078, 0.006, -0.002],
        [0.115, 0.088, 0.018, -0.006], [0.155, 0.098, 0.034, -0.010], [0.190, 0.106, 0.056, -0.012],
        [0.210, 0.114, 0.092, -0.010], [0.218, 0.122, 0.160, -0.006], [0.225, 0.130, 0.400, -0.006],
    ]
)  # fmt: skip
BODY_COLUMNS, PANEL_COLUMNS, TIE_COLUMNS = 33, 9, 3


@dataclass(frozen=True)
class Clothes:
    """One per picture: [B]. width: of the shoulders against an adult's.  collar: metres it rises.  scoop: rows of the
    profile by which the neckline falls at the front; scoop_width: radians.  panel: radians on each side that the
    surface at the front takes at the collar, panel_depth: metres to where it ends, below: bool, under the garment.
    tie: bool.  rotation: [B, 3, 3] of the body against the head.  looks: of garment, panel, tie."""

    width: Tensor
    collar: Tensor
    scoop: Tensor
    scoop_width: Tensor
    panel: Tensor
    panel_depth: Tensor
    below: Tensor
    tie: Tensor
    rotation: Tensor
    looks: tuple[Look, Look, Look]


def sample_clothes(draw: Draw, rotation: Tensor, skin: Tensor) -> Clothes:
    """Args: rotation: [B, 3, 3] of the heads.  skin: [B, 3] sRGB, for open collars."""
    batch = rotation.shape[0]
    follow = draw.uniform(batch, low=0.0, high=0.75)
    sway = draw.normal(batch, 3) * constant([0.06, 0.22, 0.06], device=draw.device)
    body = rotate_towards(rotation, follow) @ rotations.rotvec_to_rotmat(sway)
    suit = draw.chance(batch, p=0.35)
    bare = draw.chance(batch, p=0.62) & ~suit
    jacket = _cloth(draw, batch)
    shirt = _cloth(draw, batch)
    pale = torch.where(
        (draw.chance(batch, p=0.7) & suit)[:, None],
        draw.uniform(batch, 1, low=0.7, high=0.97).expand(-1, 3),
        shirt.colour,
    )
    front = torch.where(bare[:, None], skin, pale)
    panel_look = Look.plain(
        front,
        second=torch.where(bare[:, None], skin * 0.9, shirt.second),
        contrast=shirt.contrast * 0.5,
        frequency=shirt.frequency,
        layer=shirt.layer,
    )
    open_front = suit | draw.chance(batch, p=0.15)
    return Clothes(
        width=draw.uniform(batch, low=0.82, high=1.12),
        collar=draw.uniform(batch, low=-0.01, high=0.022) * ~bare,
        scoop=draw.uniform(batch, low=1.0, high=6.2) * bare,
        scoop_width=draw.uniform(batch, low=0.45, high=1.3),
        panel=torch.where(bare, 1.35, draw.uniform(batch, low=0.5, high=1.1) * open_front),
        panel_depth=torch.where(bare, 0.5, draw.uniform(batch, low=0.06, high=0.3)),
        below=bare,
        tie=suit & draw.chance(batch, p=0.65),
        rotation=rotation.transpose(1, 2) @ body,
        looks=(jacket, panel_look, _cloth(draw, batch)),
    )


def _cloth(draw: Draw, batch: int) -> Look:
    colour = draw.palette(batch, CLOTH_COLOURS, CLOTH_WEIGHTS)
    second = draw.palette(batch, CLOTH_COLOURS, CLOTH_WEIGHTS)
    plain = draw.chance(batch, 1, p=0.6)
    layers = constant(
        [LAYERS.index(n) for n in ("weave", "stripes", "checks", "fractal", "spots", "grain")], device=draw.device
    )
    return Look.plain(
        colour,
        second=torch.where(plain, colour * 0.7, second),
        contrast=draw.uniform(batch, low=0.05, high=0.8),
        frequency=draw.log_uniform(batch, 2, low=1.5, high=10),
        layer=layers[draw.index(batch, count=len(layers))],
        gloss=draw.uniform(batch) ** 3 * 0.15,
    )


class Body:
    """Three surfaces: the garment, a panel at the open front (shirt or skin), and a tie."""

    def __init__(self) -> None:
        rows = PROFILE.shape[0]
        self.garment = Topology(grid_faces(rows, BODY_COLUMNS), grid_coordinates(rows, BODY_COLUMNS))
        self.panel = Topology(grid_faces(rows, PANEL_COLUMNS), grid_coordinates(rows, PANEL_COLUMNS))
        self.tie = Topology(grid_faces(rows, TIE_COLUMNS), grid_coordinates(rows, TIE_COLUMNS))

    def shapes(self, place: Placement, clothes: Clothes) -> tuple[Shape, Shape, Shape]:
        ring = place.vertices[:, place.anatomy.neck_ring]
        neck = (ring.amin(1) + ring.amax(1)) / 2
        half = (ring[..., 0].amax(1) - ring[..., 0].amin(1)) / 2
        profile = placed(PROFILE, neck.device)
        drop = profile[:, 2].expand(neck.shape[0], -1) * place.unit
        drop = torch.cat([drop[:, :2] - clothes.collar[:, None] * place.unit, drop[:, 2:]], dim=1)
        widths = profile[:, 0] * place.unit * clothes.width[:, None]
        share = constant([1, 1, 0.75, 0.4, 0.1, 0, 0, 0, 0], device=neck.device)
        widths = torch.lerp(
            widths, 1.1 * half[:, None].expand_as(widths) * (1 + 0.15 * (1 - share)), share.expand_as(widths)
        )
        depths = torch.lerp(
            profile[:, 1] * place.unit * clothes.width[:, None], widths, (share * 0.8).expand_as(widths)
        )
        forward = profile[:, 3] * place.unit

        table = torch.stack([widths, depths, drop, forward.expand_as(widths)], dim=-1)  # [B, rows, 4]
        batch, rows = drop.shape
        steps = torch.linspace(0, 1, rows, device=neck.device)[None, :, None]

        def surface(angle: Tensor, start: Tensor, lift: Tensor) -> Tensor:
            """angle [B, rows, columns], 0 is the front; start: first profile row, alike → [B, rows·columns, 3]."""
            at = (start + steps * (rows - 1 - start)).flatten(1)
            low = at.floor().clamp(max=rows - 2)
            index = low.long()[..., None].expand(-1, -1, 4)
            profile = torch.lerp(table.gather(1, index), table.gather(1, index + 1), (at - low)[..., None])
            half_width, half_depth, fall, ahead = profile.unbind(-1)
            flat = angle.flatten(1)
            x = (half_width + lift[:, None]) * torch.sin(flat)
            z = (half_depth + lift[:, None]) * torch.cos(flat) + ahead
            points = torch.stack([x, 0.3 * lift[:, None] - fall, z], dim=-1)
            return neck[:, None] + points @ clothes.rotation.transpose(1, 2)

        around = torch.linspace(-torch.pi, torch.pi, BODY_COLUMNS, device=neck.device).expand(batch, rows, -1)
        neckline = torch.exp(-((around / clothes.scoop_width[:, None, None]) ** 2)) * clothes.scoop[:, None, None]
        # the opening is widest at the collar and closes at its depth; what hides below is pushed inside
        closing = (1 - (drop - drop[:, 1:2]) / (clothes.panel_depth * place.unit)[:, None]).clamp(0, 1)
        closing = torch.where(clothes.below[:, None], (closing * 4).clamp(max=1), closing)
        across = torch.linspace(-1, 1, PANEL_COLUMNS, device=neck.device)
        narrow = (clothes.panel[:, None] * closing)[..., None] * across
        lift = torch.where(clothes.below, -0.004, 0.003) * place.unit
        panel = surface(narrow, torch.zeros_like(narrow), lift)
        strip = constant([1.2, 1.2, 1, 1, 1.1, 1.2, 1.3, 1.5, 2.0], device=neck.device) * 0.018 * place.unit
        strip = (strip / widths.clamp(min=1e-4) * (closing > 0))[..., None]
        strip = strip * torch.linspace(-1, 1, TIE_COLUMNS, device=neck.device)
        tie = surface(strip, torch.zeros_like(strip), torch.full_like(lift, 0.006 * place.unit))
        return (
            Shape(surface(around, neckline, torch.zeros_like(lift))),
            Shape(hide(panel, clothes.panel > 0)),
            Shape(hide(tie, clothes.tie)),
        )
