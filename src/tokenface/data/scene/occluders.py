"""Occluders in front of a face: hands, microphones, telephones, cups, shapeless objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.data.draw import Draw
from tokenface.data.noise import LAYERS
from tokenface.data.scene.anatomy import Placement
from tokenface.data.scene.parts import Look, Shape, Topology, ellipsoid, frame_from_axis, hide

# A hand as ellipsoids: centre (across, along the fingers), half-size (across, along, through), cm; palm first
HAND = torch.tensor(
    [
        [0.0, 0.6, 3.7, 4.6, 1.3], [-2.8, 6.2, 0.85, 3.6, 0.85], [-0.95, 6.9, 0.9, 4.0, 0.9],
        [0.95, 6.6, 0.9, 3.8, 0.85], [2.7, 5.6, 0.8, 3.2, 0.8], [-4.4, 0.8, 1.0, 3.4, 1.0],
    ]
)  # fmt: skip
ANCHORS = (8, 5, 11, 3, 13, 48, 54, 57, 33, 1, 15, 19, 24)
"""Landmarks that hands rest on."""


@dataclass(frozen=True)
class Occluders:
    """One hand and one object per picture. anchor: [B] landmark; offset: [B, 3] metres; axis: [B, 3] of the fingers."""

    hand: Tensor
    anchor: Tensor
    offset: Tensor
    axis: Tensor
    spread: Tensor
    object: Tensor
    object_centre: Tensor
    object_size: Tensor
    object_axis: Tensor
    rod: Tensor
    looks: tuple[Look, Look]


def sample_occluders(draw: Draw, batch: int, chance: float, skin: Tensor) -> Occluders:
    """Args: skin: [B, 3] sRGB of the person; some hands are another person's."""
    device = draw.device
    own = draw.chance(batch, 1, p=0.8)
    hand_skin = torch.where(
        own, skin, draw.uniform(batch, 1, low=0.25, high=0.85) * constant([1.0, 0.78, 0.66], device=device)
    )
    microphone = draw.chance(batch, p=chance * 0.5)
    thing = draw.chance(batch, p=chance * 0.35)
    anchors = constant(ANCHORS, device=device)
    axis = draw.normal(batch, 3) * constant([0.7, 0.5, 0.25], device=device) + constant([0, 0.9, 0.0], device=device)
    ball = draw.uniform(batch, 1, low=0.018, high=0.03) * constant([1.0, 1.3, 1.0], device=device)
    lump = draw.log_uniform(batch, 3, low=0.015, high=0.06)
    below = torch.stack(
        [
            draw.normal(batch, std=0.03),
            draw.uniform(batch, low=-0.09, high=-0.02),
            draw.uniform(batch, low=0.05, high=0.12),
        ],
        1,
    )
    anywhere = torch.stack(
        [
            draw.normal(batch, std=0.06),
            draw.uniform(batch, low=-0.12, high=0.08),
            draw.uniform(batch, low=0.08, high=0.14),
        ],
        1,
    )
    layers = constant([LAYERS.index(n) for n in ("fractal", "weave", "stripes", "grain", "checks")], device=device)
    dark = torch.where(microphone[:, None], draw.uniform(batch, 1, low=0.02, high=0.3), draw.uniform(batch, 3))
    lean = draw.normal(batch, 3, std=0.35) + constant([0, 1.0, -0.35], device=device)
    turn = torch.where(microphone[:, None], lean, draw.normal(batch, 3))
    return Occluders(
        hand=draw.chance(batch, p=chance * 0.6),
        anchor=anchors[draw.index(batch, count=len(anchors))],
        offset=draw.normal(batch, 3, std=0.012) + constant([0, -0.05, 0.012], device=device),
        axis=axis,
        spread=draw.uniform(batch, low=0.85, high=1.2),
        object=microphone | thing,
        object_centre=torch.where(microphone[:, None], below, anywhere),
        object_size=torch.where(microphone[:, None], ball, lump),
        object_axis=turn,
        rod=microphone,
        looks=(
            Look.plain(
                hand_skin,
                second=hand_skin * 0.8,
                contrast=draw.uniform(batch, high=0.5),
                gloss=draw.uniform(batch, high=0.25),
            ),
            Look.plain(
                dark,
                second=draw.uniform(batch, 3) * 0.7,
                contrast=draw.uniform(batch, high=0.9),
                frequency=draw.log_uniform(batch, 2, low=0.5, high=5),
                layer=layers[draw.index(batch, count=len(layers))],
                gloss=draw.uniform(batch) ** 2 * 0.7,
            ),
        ),
    )


class OccluderMesh:
    def __init__(self) -> None:
        ball, faces, coordinates = ellipsoid(7, 11)
        count = ball.shape[0]
        self.ball = ball
        self.hand = Topology(torch.cat([faces + i * count for i in range(len(HAND))]), coordinates.repeat(len(HAND), 1))
        self.object = Topology(torch.cat([faces, faces + count]), coordinates.repeat(2, 1))

    def shapes(self, place: Placement, o: Occluders) -> tuple[Shape, Shape]:
        batch, unit = o.anchor.shape[0], place.unit
        rows = torch.arange(batch, device=o.anchor.device)
        ball = placed(self.ball, o.axis.device)
        hand = placed(HAND, o.axis.device) / 100 * unit
        axes = frame_from_axis(o.axis)
        across = hand[:, None, 0] * o.spread[:, None, None]  # [B, 6, 1]
        # a palm is boxier than a ball
        palm = torch.sign(ball) * ball.abs() ** constant([0.55, 0.75, 0.9], device=ball.device)
        pieces = torch.cat([palm[None], ball.expand(len(hand) - 1, -1, -1)])
        centre = torch.stack([across[..., 0], hand[:, 1].expand(batch, -1), torch.zeros_like(across[..., 0])], dim=-1)
        points = centre[:, :, None] + pieces * hand[:, None, 2:]
        # fingers bend towards the face
        bend = torch.zeros_like(points)
        bend[..., 2] = -(points[..., 1].clamp(min=0) ** 2) * 2.5
        points = (points + bend).flatten(1, 2)
        # the palm's third axis must point away from the face
        flip = torch.where(axes[:, 2:, 2] < 0, -1.0, 1.0)
        axes = torch.stack([axes[..., 0] * flip, axes[..., 1], axes[..., 2] * flip], dim=-1)
        tips = constant([0, 0.06, 0], device=o.axis.device) * unit
        origin = place.landmarks[rows, o.anchor] + o.offset * unit
        hand_vertices = origin[:, None] + (points - tips * 0.3) @ axes.transpose(1, 2)

        frame = frame_from_axis(o.object_axis)
        head = ball * o.object_size[:, None] * unit
        long = torch.stack(
            [o.object_size[:, 0] * 0.55, torch.full_like(o.rod, 0.09, dtype=ball.dtype), o.object_size[:, 0] * 0.55], -1
        )
        rod = ball * torch.where(o.rod[:, None], long, torch.zeros_like(long))[:, None] * unit
        rod = rod - constant([0, 0.09, 0], device=o.axis.device) * unit * o.rod[:, None, None]
        mouth = place.landmarks[:, 48:55:6].mean(1)
        object_vertices = (mouth + o.object_centre * unit)[:, None] + torch.cat([head, rod], 1) @ frame.transpose(1, 2)
        return Shape(hide(hand_vertices, o.hand)), Shape(hide(object_vertices, o.object))
