"""Hairstyles: shells over the scalp from shaved to long, fringes, partings, buns and pony tails; hair colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.data.draw import Draw
from tokenface.data.noise import LAYERS
from tokenface.data.scene.anatomy import Placement
from tokenface.data.scene.parts import Look, Shape, Topology, ellipsoid, hide
from tokenface.data.scene.shell import KNOTS, ShellStyle

COLOURS = torch.tensor(
    [
        [0.035, 0.03, 0.03], [0.08, 0.06, 0.05], [0.17, 0.11, 0.075], [0.28, 0.18, 0.11], [0.40, 0.28, 0.17],
        [0.58, 0.44, 0.27], [0.76, 0.63, 0.42], [0.45, 0.20, 0.09], [0.55, 0.54, 0.53], [0.82, 0.81, 0.79],
    ]
)  # fmt: skip
COLOUR_WEIGHTS = (1.6, 1.8, 1.5, 1.2, 0.8, 0.8, 0.7, 0.35, 0.7, 0.45)

# kind: frequency, then (low, high) of top, side and back thickness (mm), hanging length (cm), opening (degrees)
KINDS: dict[str, tuple[float, tuple[tuple[float, float], ...]]] = {
    "bald": (0.7, ((0, 0), (0, 0), (0, 0), (0, 0), (90, 90))),
    "cropped": (1.2, ((3, 8), (2, 5), (3, 6), (0, 0), (90, 90))),
    "short": (3.2, ((9, 28), (4, 12), (6, 16), (0, 0), (90, 90))),
    "medium": (1.6, ((12, 32), (12, 30), (14, 32), (2, 9), (62, 95))),
    "long": (2.6, ((10, 26), (9, 26), (12, 30), (12, 34), (52, 92))),
    "tied": (1.0, ((6, 14), (4, 9), (6, 12), (0, 0), (90, 90))),
    "curly": (1.0, ((22, 60), (15, 50), (20, 55), (0, 5), (70, 100))),
}
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class Hair:
    """One hairstyle per person: [n]. kind indexes NAMES; bun: radius in metres, 0 where there is none."""

    kind: Tensor
    shell: ShellStyle
    bun: Tensor
    bun_length: Tensor
    bun_polar: Tensor
    colour: Tensor
    look: Look

    @property
    def shown(self) -> Tensor:
        return self.kind != NAMES.index("bald")


def sample_hair(draw: Draw, people: int, skin_lightness: Tensor) -> Hair:
    """Args: skin_lightness: [n] in [0, 1]; dark skin rarely goes with fair hair."""
    device = draw.device
    kind = draw.pick(people, [k[0] for k in KINDS.values()])
    table = constant([k[1] for k in KINDS.values()], device=device)[kind]  # [n, 5, 2]
    value = table[..., 0] + (table[..., 1] - table[..., 0]) * draw.uniform(people, 5)
    top, side, back = (value[:, i] / 1000 for i in range(3))
    covering = (kind == NAMES.index("medium")) | (kind == NAMES.index("long")) | (kind == NAMES.index("curly"))
    wavy = draw.uniform(people)
    shell = ShellStyle(
        rim=_rim(draw, people, covering, kind == NAMES.index("curly")),
        top=top,
        side=side,
        back=back,
        edge=draw.uniform(people, low=0.1, high=0.45),
        bumps=draw.normal(people, 1, 5, 9) * draw.uniform(people, 1, 1, 1, low=0.05, high=0.3),
        part=draw.uniform(people, low=-0.9, high=0.9) * draw.chance(people, p=0.8),
        part_depth=draw.uniform(people) * draw.chance(people, p=0.5),
        hang=value[:, 3] / 100,
        opening=torch.deg2rad(value[:, 4]),
        flare=draw.normal(people, std=0.16),
        wave=wavy**3 * 0.012,
        closing=torch.zeros(people, device=device),
    )
    fair = placed(COLOURS, device).mean(1)
    weights = constant(COLOUR_WEIGHTS, device=device) * torch.exp(
        -14 * (0.62 - skin_lightness[:, None]).clamp(min=0) * (fair - 0.1).clamp(min=0)
    )
    colour = draw.palette(people, COLOURS, weights, jitter=0.015)
    tied = (kind == NAMES.index("tied")) | (draw.chance(people, p=0.05) & (kind == NAMES.index("short")))
    return Hair(
        kind=kind,
        shell=shell,
        bun=draw.uniform(people, low=0.022, high=0.045) * tied,
        bun_length=torch.where(
            draw.chance(people, p=0.5), draw.uniform(people, low=1.5, high=3.5), torch.ones(people, device=device)
        ),
        bun_polar=draw.uniform(people, low=-0.6, high=1.7),
        colour=colour,
        look=_look(draw, people, colour, kind, wavy),
    )


def _look(draw: Draw, people: int, colour: Tensor, kind: Tensor, wavy: Tensor) -> Look:
    strands = constant(
        [LAYERS.index(n) for n in ("strands", "strands_fine", "strands_wavy", "curls")], device=colour.device
    )
    curly = (kind == NAMES.index("curly")) | (wavy > 0.9)
    layer = torch.where(curly, strands[3], strands[draw.index(people, count=3)])
    dyed = torch.where(
        draw.chance(people, 1, p=0.2), colour * draw.uniform(people, 1, low=1.2, high=2.2), colour * 0.45
    )
    around = draw.uniform(people, low=3, high=7) * torch.where(curly, 2.0, 1.0)
    along = torch.where(curly, draw.uniform(people, low=4, high=9), draw.uniform(people, low=0.4, high=1.2))
    return Look.plain(
        colour,
        second=dyed.clamp(0, 1),
        contrast=draw.uniform(people, low=0.25, high=0.75),
        frequency=torch.stack([around, along], dim=1),
        layer=layer,
        gloss=draw.uniform(people, low=0.05, high=0.5) * torch.where(curly, 0.4, 1.0),
        sheen=torch.ones(people, device=colour.device),
        ragged=draw.uniform(people, low=0.004, high=0.02),
    )


def _rim(draw: Draw, people: int, covering: Tensor, round_shape: Tensor) -> Tensor:
    """[n, 2, KNOTS] metres above the bridge; the middle of the forehead is both sides' first knot."""
    device = draw.device
    front = draw.uniform(people, low=0.052, high=0.072) + draw.chance(people, p=0.2) * draw.uniform(people, high=0.04)
    recess = draw.uniform(people, low=-0.004, high=0.018)
    sideburn = draw.uniform(people, low=-0.03, high=0.012)
    nape = draw.uniform(people, low=-0.085, high=-0.055)
    ear = torch.where(
        covering, draw.uniform(people, low=-0.035, high=0.005), torch.full((people,), 0.014, device=device)
    )
    behind = torch.where(covering, nape, draw.uniform(people, low=-0.03, high=0.0))
    columns = [front, front - 0.004, front - 0.012 + recess, 0.025 + recess, sideburn, ear, behind, nape * 0.85, nape]
    rim = torch.stack(columns, dim=1)[:, None].repeat(1, 2, 1)
    rim = rim + draw.normal(people, 2, KNOTS, std=0.003)
    # a fringe comes down the forehead towards one side, the other, or both
    fringe = draw.chance(people, p=torch.where(covering, 0.4, 0.22)) & ~round_shape
    low = draw.uniform(people, low=0.02, high=0.048)
    reach = draw.uniform(people, 2, KNOTS)
    swept = torch.where(
        draw.chance(people, 1, p=0.5), draw.index(people, 2, count=2).float(), torch.ones(people, 2, device=device)
    )
    fall = (constant([1, 0.95, 0.8, 0.3] + [0.0] * (KNOTS - 4), device=device) * (0.8 + 0.2 * reach)) * swept[..., None]
    fall = fall * fringe[:, None, None]
    rim = torch.lerp(rim, torch.minimum(rim, low[:, None, None].expand_as(rim)), fall)
    rim[:, :, 0] = rim[:, :, 0].mean(1, keepdim=True)
    return rim


class Bun:
    """A knot or a tail of hair at the back of the head."""

    def __init__(self) -> None:
        self.unit, faces, coordinates = ellipsoid(9, 15)
        self.topology = Topology(faces, coordinates)

    def shape(self, place: Placement, hair: Hair) -> Shape:
        unit = place.unit
        polar = hair.bun_polar[:, None]
        direction = torch.cat([torch.zeros_like(polar), torch.cos(polar), -torch.sin(polar).abs() - 0.15], dim=1)
        direction = torch.nn.functional.normalize(direction, dim=1)
        reach = ((place.scalp - place.skull[:, None, None]) * direction[:, None, None]).sum(-1).flatten(1).amax(1)
        radius = hair.bun * unit
        centre = place.skull + direction * (reach + 0.7 * radius)[:, None]
        size = torch.stack([radius, radius * hair.bun_length, radius], dim=1)
        centre = centre + place.down * (size[:, 1] - radius)[:, None]
        vertices = centre[:, None] + placed(self.unit, centre.device) * size[:, None]
        tangents = torch.zeros_like(vertices)
        tangents[..., 1] = 1
        return Shape(hide(vertices, hair.bun > 0), tangents)


def strands_of(hair: Hair, shape: Shape) -> Shape:
    """The shell of people who have hair; the others' shells cover nothing."""
    return Shape(hide(shape.vertices, hair.shown), shape.tangents, shape.end)
