"""Spectacles and sunglasses (rims, lenses, bridge, temples), fitted to a face's landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw
from tokenface.data.scene.anatomy import Placement
from tokenface.data.scene.parts import Look, Shape, Topology, grid_coordinates, grid_faces, hide

OUTLINE = 29
FRAME_COLOURS = torch.tensor(
    [
        [0.03, 0.03, 0.03],
        [0.12, 0.1, 0.09],
        [0.3, 0.18, 0.1],
        [0.6, 0.58, 0.55],
        [0.72, 0.6, 0.35],
        [0.4, 0.1, 0.12],
        [0.15, 0.2, 0.4],
    ]
)
FRAME_WEIGHTS = (3.0, 1.5, 1.0, 1.5, 0.8, 0.3, 0.3)


@dataclass(frozen=True)
class Glasses:
    """One per picture: [B], metres. shown: bool; half_width, half_height of a lens; exponent: 2 is an ellipse."""

    shown: Tensor
    half_width: Tensor
    half_height: Tensor
    exponent: Tensor
    rim: Tensor
    slide: Tensor
    wrap: Tensor
    looks: tuple[Look, Look]


def sample_glasses(draw: Draw, batch: int, chance: float) -> Glasses:
    shown = draw.chance(batch, p=chance)
    tinted = draw.chance(batch, p=0.3)
    colour = draw.palette(batch, FRAME_COLOURS, FRAME_WEIGHTS)
    thick = draw.chance(batch, p=0.5)
    glass = draw.uniform(batch, 1, high=0.9) * draw.uniform(batch, 3, low=0.85, high=1.0)
    tint = draw.uniform(batch, 3, low=0.01, high=0.16)
    alpha = torch.where(tinted, draw.uniform(batch, low=0.6, high=0.98), draw.uniform(batch) ** 3 * 0.35)
    return Glasses(
        shown=shown,
        half_width=draw.uniform(batch, low=0.022, high=0.029) + tinted * 0.002,
        half_height=draw.uniform(batch, low=0.013, high=0.021) + tinted * 0.004,
        exponent=draw.log_uniform(batch, low=2, high=5),
        rim=torch.where(
            thick, draw.uniform(batch, low=0.003, high=0.0065), draw.uniform(batch, low=0.0012, high=0.002)
        ),
        slide=draw.normal(batch, std=0.003),
        wrap=draw.uniform(batch, low=0.5, high=4.0) + tinted * 2.0,
        looks=(
            Look.plain(colour, gloss=draw.uniform(batch, high=0.9), alpha=draw.uniform(batch, low=0.7, high=1.0)),
            Look.plain(
                torch.where(tinted[:, None], tint, glass),
                second=torch.where(tinted[:, None], tint + draw.uniform(batch, 1, high=0.35), glass),
                contrast=draw.uniform(batch),
                frequency=draw.uniform(batch, 2, low=0.1, high=0.8),
                layer=torch.full((batch,), 2, device=draw.device),
                gloss=draw.uniform(batch, low=0.3, high=1.0),
                alpha=alpha,
            ),
        ),
    )


class GlassesMesh:
    """Frame (rims, bridge, temples) and lenses."""

    def __init__(self) -> None:
        ring, strip = grid_faces(3, OUTLINE), grid_faces(2, 5)
        pieces = [ring, ring, strip, strip, strip]
        sizes = [3 * OUTLINE, 3 * OUTLINE, 10, 10, 10]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        faces = torch.cat([p + s for p, s in zip(pieces, starts, strict=True)])
        self.frame = Topology(faces, torch.zeros(sum(sizes), 2))
        lens = grid_faces(2, OUTLINE)
        flat = grid_coordinates(2, OUTLINE)
        self.lenses = Topology(torch.cat([lens, lens + 2 * OUTLINE]), torch.cat([flat, flat]))

    def shapes(self, place: Placement, g: Glasses) -> tuple[Shape, Shape]:
        marks, unit = place.landmarks, place.unit
        right, left = marks[:, 36:42].mean(1), marks[:, 42:48].mean(1)
        x = F.normalize(marks[:, 45] - marks[:, 36], dim=-1)
        upward = marks[:, 27] - marks[:, 33]
        z = F.normalize(torch.linalg.cross(x, upward), dim=-1)
        # temples reach the ears horizontally: the frame stands upright whatever the nose does
        z = F.normalize(z * constant([1.0, 0.3, 1.0], device=z.device), dim=-1)
        y = torch.linalg.cross(z, x)
        axes = torch.stack([x, y, z], dim=-1)  # columns
        eyes = (right + left) / 2
        reach = ((left - right) * x).sum(-1) / 2
        nose = ((marks[:, 27] * 0.6 + marks[:, 28] * 0.4 - eyes) * z).sum(-1)
        lids = ((marks[:, 36:48] - eyes[:, None]) * z[:, None]).sum(-1).amax(1)
        front = torch.maximum(nose + 0.002 * unit, lids + 0.010 * unit)
        width, height = g.half_width * unit, g.half_height * unit
        apart = torch.maximum(reach, width + 0.008 * unit)
        down = (g.slide - 0.001) * unit

        angle = torch.linspace(0, 2 * torch.pi, OUTLINE, device=x.device)
        cos, sin = torch.cos(angle), torch.sin(angle)
        e = 2 / g.exponent[:, None]
        outline = torch.stack([torch.sign(cos) * cos.abs() ** e, torch.sign(sin) * sin.abs() ** e], dim=-1)  # [B, N, 2]
        narrow = 1 - 0.12 * (outline[..., 1] < 0) * outline[..., 1].abs()
        outline = torch.stack([outline[..., 0] * narrow, outline[..., 1]], dim=-1)

        def lens_points(side: float, grow: Tensor, behind: float) -> Tensor:
            px = side * apart[:, None] + outline[..., 0] * (width + grow)[:, None]
            py = outline[..., 1] * (height + grow)[:, None] + down[:, None]
            pz = front[:, None] - g.wrap[:, None] * px**2 / unit - behind * unit
            return torch.stack([px, py, pz], dim=-1)

        zero = torch.zeros_like(width)
        rim = g.rim * unit
        frame, lenses, hinges = [], [], []
        for side in (-1.0, 1.0):
            inner, outer, back = lens_points(side, zero, 0), lens_points(side, rim, 0), lens_points(side, rim, 0.003)
            frame += [inner, outer, back]
            middle = inner.mean(1, keepdim=True).expand_as(inner) + constant([0, 0, 0.001], device=x.device) * unit
            lenses += [middle, inner]
            edge = side * (apart + width + 0.5 * rim)
            hinges.append(torch.stack([edge, down + 0.45 * height, front - g.wrap * edge**2 / unit], dim=-1))
        t = torch.linspace(-1, 1, 5, device=x.device)
        gap = (apart - width + 0.002 * unit)[:, None]
        arch = down[:, None] + 0.3 * height[:, None] + 0.003 * unit * (1 - t**2)
        bridge = torch.stack([gap * t, arch, (front[:, None] + 0.001 * unit).expand_as(arch)], dim=-1)
        lift = constant([0, 1.0, 0], device=x.device)
        tall = (rim.clamp(min=0.0018 * unit) * 0.6)[:, None, None] * lift
        frame += [bridge + tall, bridge - tall]
        ears = torch.einsum("bki,bij->bkj", marks[:, 0:17:16] - eyes[:, None], axes)
        for hinge, ear in zip(hinges, ears.unbind(1), strict=True):
            behind = torch.stack([ear[:, 0] * 1.02, hinge[:, 1] - 0.004 * unit, ear[:, 2] - 0.012 * unit], dim=-1)
            path = torch.lerp(hinge[:, None], behind[:, None], torch.linspace(0, 1, 5, device=x.device)[None, :, None])
            frame += [path + 1.2 * tall, path - 1.2 * tall]

        def to_head(points: list[Tensor]) -> Tensor:
            return hide(eyes[:, None] + torch.cat(points, dim=1) @ axes.transpose(1, 2), g.shown)

        return Shape(to_head(frame)), Shape(to_head(lenses))
