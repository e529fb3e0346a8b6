"""Synthetic clips: one person with smooth expression, gaze, pose and framing, and ground truth per frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokenface.data.backgrounds import sample_backgrounds
from tokenface.data.degrade import Degradation, degrade
from tokenface.data.draw import Draw
from tokenface.data.expressions import ExpressionSampler
from tokenface.data.sampling import (
    Framing,
    PoseRange,
    View,
    frame_faces,
    rotation_from_angles,
    sample_distances,
)
from tokenface.data.scene.lighting import auto_exposure, sample_light
from tokenface.data.scene.outfit import Chances, sample_outfit, sample_people
from tokenface.data.scene.picture import Painter
from tokenface.head.model import HeadModel
from tokenface.render.rasterizer import Backend
from tokenface.render.texture import HeadAlbedo


@dataclass(frozen=True)
class Motion:
    """Amounts of motion, for 30 frames a second.

    dwell: frames between one expression and the next.  walk: frames over which head and framing change direction.
    yaw, pitch, roll: degrees, standard deviation of the head's walk around its mean turn.  shift: of the face in the
    frame, picture half-widths.  zoom: logarithm.  still: share of clips in which the head hardly moves.
    blinks: per second.
    """

    dwell: tuple[float, float] = (5.0, 18.0)
    walk: tuple[float, float] = (5.0, 16.0)
    yaw: float = 9.0
    pitch: float = 5.0
    roll: float = 4.0
    shift: float = 0.07
    zoom: float = 0.04
    still: float = 0.35
    blinks: float = 0.4


@dataclass(frozen=True)
class SequenceConfig:
    """zoom: side of the frame over the landmark box: the face moves inside it.  noise: standard deviation of what the
    sensor adds to each frame by itself (up to).  flicker: logarithm of each frame's brightness."""

    motion: Motion = field(default_factory=Motion)
    zoom: tuple[float, float] = (1.9, 2.6)
    poses: PoseRange = field(default_factory=lambda: PoseRange(frontal=0.65, turned=0.35))
    chances: Chances = field(default_factory=lambda: Chances(glasses=0.2, hat=0.08, occluder=0.1))
    noise: float = 0.03
    flicker: float = 0.01


@dataclass(frozen=True)
class FaceSequence:
    """T frames. image: [T, 3, S, S] sRGB in [0, 1].  shape: [T, S] (all rows alike).  expression: [T, E].
    jaw: [T, 3].  rotation: [T, 3, 3] head space to camera space.  points: [T, 68, 2] pixels of the frame."""

    image: Tensor
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    view: View
    points: Tensor


class SyntheticSequences:
    """A generator of clips for one head model; `size`: pixels of the square frames, a multiple of 8."""

    def __init__(
        self, head: HeadModel, size: int = 288, config: SequenceConfig | None = None, backend: Backend = "auto"
    ):
        self.head, self.size, self.config = head, size, config or SequenceConfig()
        self.painter = Painter(head, size, backend)
        self.albedo = HeadAlbedo(head) if self.painter.has_albedo else None
        has_jaw = bool((head.skinning_weights[:, 2] > 0.1).any())
        self.expressions = ExpressionSampler(head.expression_names, head.expression_range, has_jaw)

    @torch.no_grad()
    def sample(self, frames: int, seed: int) -> FaceSequence:
        """One clip; the same seed gives the same clip on the same machine."""
        draw, config, head = Draw.seeded(seed, "cpu"), self.config, self.head
        every = torch.zeros(frames, dtype=torch.long)
        shape = draw.normal(1, head.sizes.shape)
        skin = None if self.albedo is None else self.albedo(draw.normal(1, head.sizes.texture))
        person = sample_people(draw, 1, None if skin is None else self.painter.cheek_colour(skin))
        expression, jaw = self._performance(draw, frames)
        rotation = self._head_motion(draw, frames)
        vertices = head(shape.expand(frames, -1), expression, jaw).vertices
        marks = head.landmarks68(vertices)
        view = self._camera(draw, marks, rotation)
        light = sample_light(draw, 1)
        factor = auto_exposure(light, person.skin.mean(1))
        outfit = sample_outfit(draw, person, rotation[:1], config.chances)
        background = sample_backgrounds(draw, 1, self.size)
        picture = self.painter.draw(
            vertices,
            marks,
            view,
            _repeated(light, every),
            factor.expand(frames) * torch.exp(draw.normal(frames, std=config.flicker)),
            _repeated(person, every),
            _repeated(outfit, every),
            None if skin is None else skin.expand(frames, -1, -1, -1),
            background.expand(frames, -1, -1, -1),
        )
        image = self._spoiled(draw, picture.image.clamp(0, 1))
        yaw = torch.atan2(-rotation[:, 2, 0], torch.hypot(rotation[:, 0, 0], rotation[:, 1, 0]))
        seen = view.project(head.landmarks68(vertices, yaw))[..., :2]
        return FaceSequence(
            image, shape.expand(frames, -1), expression, jaw, view, (seen + 1) * (self.size / 2)
        )  # fmt: skip

    def _performance(self, draw: Draw, frames: int) -> tuple[Tensor, Tensor]:
        """[T, E] and [T, 3]: from one drawn expression to the next, eased; blinks on top."""
        low, high = self.config.motion.dwell
        count = math.ceil(frames / low) + 2
        keys = self.expressions.sample(draw, count)
        times = torch.cumsum(draw.uniform(count, low=low, high=high), 0)
        times = times - draw.uniform(1, low=low, high=float(times[1]))
        now = torch.arange(frames, dtype=torch.float32)
        after = torch.searchsorted(times, now).clamp(1, count - 1)
        share = ((now - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1)[:, None]
        share = share * share * (3 - 2 * share)
        expression = torch.lerp(keys.weights[after - 1], keys.weights[after], share)
        jaw = torch.lerp(keys.jaw[after - 1], keys.jaw[after], share)
        return self._blink(draw, expression), jaw

    def _blink(self, draw: Draw, expression: Tensor) -> Tensor:
        frames = len(expression)
        lids = [i for i, name in enumerate(self.expressions.names) if name.startswith("eyeBlink")]
        number = int((draw.uniform(1) < self.config.motion.blinks * frames / 30).item())
        for _ in range(number if lids else 0):
            middle, width = draw.uniform(1) * frames, draw.uniform(1, low=2.0, high=4.5)
            shut = (1 - ((torch.arange(frames) - middle) / width).square()).clamp(min=0)
            expression[:, lids] = torch.maximum(expression[:, lids], shut[:, None])
        return expression

    def _head_motion(self, draw: Draw, frames: int) -> Tensor:
        motion, poses = self.config.motion, self.config.poses
        turned = draw.chance(1, p=poses.turned)
        yaw = torch.where(
            turned, draw.uniform(1, low=-poses.turned_yaw, high=poses.turned_yaw), draw.normal(1, std=poses.frontal_yaw)
        )
        mean = torch.stack([yaw[0], draw.normal(1, std=poses.pitch)[0], draw.normal(1, std=poses.roll)[0]])
        amount = torch.where(draw.chance(1, p=motion.still), 0.06, draw.uniform(1, low=0.2, high=1.0))
        walk = self._walk(draw, frames, 3) * torch.tensor([motion.yaw, motion.pitch, motion.roll]) * amount
        angles = torch.deg2rad(mean + walk)
        return rotation_from_angles(*angles.unbind(-1))

    def _camera(self, draw: Draw, marks: Tensor, rotation: Tensor) -> View:
        """A camera that holds still on a face that moves in its picture."""
        frames, motion = len(marks), self.config.motion
        distance = sample_distances(draw, 1)
        view = frame_faces(draw, marks[:1], rotation[:1], distance, Framing(self.config.zoom, 0.04))
        amount = torch.where(draw.chance(1, p=motion.still), 0.05, draw.uniform(1, low=0.2, high=1.0))
        walk = self._walk(draw, frames, 3) * amount
        walk = walk - walk[:1]
        depth = (marks @ rotation.transpose(1, 2))[..., 2].mean(1)
        return View(
            rotation=rotation,
            scale=view.scale * torch.exp(motion.zoom * walk[:, 0]),
            translation=view.translation + motion.shift * walk[:, 1:],
            distance=distance.expand(frames),
            depth=depth,
        )

    def _walk(self, draw: Draw, frames: int, channels: int) -> Tensor:
        """[T, C] smooth random motion of unit variance: noise through a Gaussian as wide as the drawn walk."""
        width = float(draw.uniform(1, low=self.config.motion.walk[0], high=self.config.motion.walk[1]))
        reach = math.ceil(3 * width)
        noise = draw.normal(channels, 1, frames + 2 * reach)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()
        return torch.nn.functional.conv1d(noise, kernel[None, None])[:, 0].T

    def _spoiled(self, draw: Draw, images: Tensor) -> Tensor:
        """One lens, codec and colour setting for the clip, and noise of its own in every frame."""
        settings = replace(Degradation(), noise=0.0, motion=0.0, groups=1)
        seed = int(draw.index(1, count=1 << 30))
        spoiled = torch.cat([degrade(Draw.seeded(seed, "cpu"), image[None], settings) for image in images])
        strength = float(draw.uniform(1)) ** 2 * self.config.noise
        coarse = torch.nn.functional.interpolate(
            draw.normal(len(images), 1, self.size // 2, self.size // 2), size=(self.size, self.size)
        )
        noise = 0.7 * draw.normal(*images.shape) + 0.5 * coarse
        return (spoiled + strength * noise * (0.35 + spoiled).clamp(max=1.0)).clamp(0, 1)


def _repeated(record: Any, rows: Tensor) -> Any:
    """The same record with every tensor indexed by rows, in nested records and tuples too."""
    if isinstance(record, Tensor):
        return record[rows]
    if isinstance(record, tuple):
        return tuple(_repeated(entry, rows) for entry in record)
    if is_dataclass(record):
        kind: Any = type(record)
        return kind(**{name: _repeated(value, rows) for name, value in vars(record).items()})
    return record
