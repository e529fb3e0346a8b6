"""Hats, caps, hoods and headscarves: shells of cloth, with a brim or a visor where they have one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw
from tokenface.data.noise import LAYERS
from tokenface.data.scene.anatomy import Placement
from tokenface.data.scene.clothes import CLOTH_COLOURS, CLOTH_WEIGHTS
from tokenface.data.scene.parts import Look, Shape, Topology, grid_coordinates, grid_faces, hide
from tokenface.data.scene.shell import KNOTS, ShellStyle

KINDS = ("none", "cap", "beanie", "brimmed", "scarf", "hood")
BRIM_ROWS, BRIM_COLUMNS = 3, 33


@dataclass(frozen=True)
class Hat:
    """One per picture: [B]. brim: metres; brim_reach: radians from the front on each side; droop: radians."""

    kind: Tensor
    shell: ShellStyle
    brim: Tensor
    brim_reach: Tensor
    droop: Tensor
    look: Look

    @property
    def shown(self) -> Tensor:
        return self.kind > 0


def sample_hats(draw: Draw, batch: int, chance: float, hair_top: Tensor) -> Hat:
    """Args: hair_top: [B] thickness of the hair that must fit below, metres."""
    device = draw.device
    kind = draw.pick(batch, [1 - chance, *(chance * share for share in (0.34, 0.2, 0.16, 0.18, 0.12))])
    cap, beanie, brimmed, scarf, hood = (kind == i for i in range(1, 6))
    cloth = scarf | hood
    front = torch.where(cloth, draw.uniform(batch, low=0.05, high=0.075), draw.uniform(batch, low=0.032, high=0.06))
    back = torch.where(cloth, draw.uniform(batch, low=-0.09, high=-0.07), draw.uniform(batch, low=-0.03, high=0.02))
    side = torch.where(
        cloth, front - 0.035, torch.where(beanie, draw.uniform(batch, low=-0.02, high=0.025), (front + back) / 2 + 0.01)
    )
    share = constant([0, 0.12, 0.3, 0.65, 1, 1, 1, 1, 1], device=device)
    tail = constant([0, 0, 0, 0, 0, 0.2, 0.5, 0.8, 1], device=device)
    rim = front[:, None] + (side - front)[:, None] * share + (back - side)[:, None] * tail
    thickness = hair_top.clamp(max=0.012) + draw.uniform(batch, low=0.006, high=0.016) + hood * 0.016
    zero = torch.zeros(batch, device=device)
    high = (
        thickness
        + brimmed * draw.uniform(batch, low=0.02, high=0.06)
        + (beanie | cap) * draw.uniform(batch, high=0.025)
    )
    shell = ShellStyle(
        rim=rim[:, None].expand(batch, 2, KNOTS),
        top=high,
        side=thickness,
        back=thickness + hood * 0.02,
        edge=torch.where(cloth, 0.55, 0.9),
        bumps=draw.normal(batch, 1, 5, 9) * (0.04 + 0.1 * cloth[:, None, None, None]),
        part=zero,
        part_depth=zero,
        hang=torch.where(cloth, draw.uniform(batch, low=0.16, high=0.26), zero),
        opening=torch.where(hood, draw.uniform(batch, low=0.85, high=1.1), draw.uniform(batch, low=0.72, high=0.95)),
        flare=hood * draw.uniform(batch, low=-0.1, high=0.25),
        wave=cloth * draw.uniform(batch, high=0.005),
        closing=scarf * 1.0,
    )
    colour = draw.palette(batch, CLOTH_COLOURS, CLOTH_WEIGHTS)
    second = draw.palette(batch, CLOTH_COLOURS, CLOTH_WEIGHTS)
    plain = draw.chance(batch, 1, p=0.7)
    layers = constant([LAYERS.index(n) for n in ("weave", "stripes", "checks", "fractal", "spots")], device=device)
    return Hat(
        kind=kind,
        shell=shell,
        brim=cap * draw.uniform(batch, low=0.05, high=0.08) + brimmed * draw.uniform(batch, low=0.035, high=0.1),
        brim_reach=torch.where(brimmed, math.pi, draw.uniform(batch, low=0.9, high=1.15)),
        droop=draw.uniform(batch, low=-0.1, high=0.45),
        look=Look.plain(
            colour,
            second=torch.where(plain, colour * 0.75, second),
            contrast=draw.uniform(batch, low=0.1, high=0.9),
            frequency=draw.log_uniform(batch, 2, low=1, high=6),
            layer=layers[draw.index(batch, count=len(layers))],
            gloss=draw.uniform(batch) ** 2 * 0.2,
        ),
    )


class Brim:
    """A visor or a brim that leaves the rim of a shell outwards."""

    def __init__(self) -> None:
        self.topology = Topology(grid_faces(BRIM_ROWS, BRIM_COLUMNS), grid_coordinates(BRIM_ROWS, BRIM_COLUMNS))

    def shape(self, place: Placement, hat: Hat, shell: Shape, rows: int) -> Shape:
        """Args: shell: the hat's shell; rows: its rows above the rim."""
        batch = shell.vertices.shape[0]
        columns = place.anatomy.azimuth.shape[0]
        rim = shell.vertices.view(batch, -1, columns, 3)[:, rows - 1]
        across = torch.linspace(-1, 1, BRIM_COLUMNS, device=rim.device)
        azimuth = hat.brim_reach[:, None] * across
        position = (azimuth / math.pi + 1) / 2 * (columns - 1)
        low = position.floor().long().clamp(0, columns - 2)
        index = low[..., None].expand(-1, -1, 3)
        root = torch.lerp(rim.gather(1, index), rim.gather(1, index + 1), (position - low)[..., None])
        cap = hat.kind[:, None] == KINDS.index("cap")
        # a visor points forward and tapers to its ends; a brim points away from the head all around
        forward = torch.stack([0.35 * torch.sin(azimuth), torch.zeros_like(azimuth), torch.ones_like(azimuth)], dim=-1)
        radial = torch.stack([torch.sin(azimuth), torch.zeros_like(azimuth), torch.cos(azimuth)], dim=-1)
        direction = F.normalize(torch.where(cap[..., None], forward, radial), dim=-1)
        droop = hat.droop[:, None] * torch.where(cap, 1 + 0.8 * across**2, torch.ones_like(azimuth))
        down = constant([0, 1.0, 0], device=droop.device)
        direction = direction * torch.cos(droop)[..., None] - torch.sin(droop)[..., None] * down
        length = (
            hat.brim[:, None]
            * place.unit
            * torch.where(cap, (1 - across.abs() ** 2.5).clamp(min=0), torch.ones_like(azimuth))
        )
        t = torch.linspace(0, 1, BRIM_ROWS, device=rim.device)[None, :, None, None]
        vertices = root[:, None] + direction[:, None] * length[:, None, :, None] * t
        return Shape(hide(vertices.reshape(batch, -1, 3), hat.brim > 0))
