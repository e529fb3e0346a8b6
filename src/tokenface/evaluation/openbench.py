"""Open benchmark: rendered people with known heads, under the conditions that NoW varies.

Nothing is downloaded; everything follows from a version and a seed. Numbers of different versions are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.expressions import ExpressionSampler
from tokenface.data.sampling import rotation_from_angles
from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.evaluation.people import People
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

VERSION = "2"
SEED = 20_260_704
"""Of the people; training seeds are mixed from small numbers, and validation has another one."""
EXPRESSIONS = 6
"""Expressions that people share in the condition 'expression'."""
CHUNK = 20


@dataclass(frozen=True)
class Condition:
    """Photographic condition of one set. Angles in degrees, distance in metres, both ranges.

    yaw: absolute, to either side.  expressive: with one of the shared expressions, else neutral.
    covered: glasses, hats and things before the face.  dark: one picture in low light, with its noise.
    """

    name: str
    yaw: tuple[float, float] = (0.0, 12.0)
    pitch: float = 6.0
    distance: tuple[float, float] = (1.0, 3.0)
    expressive: bool = False
    covered: bool = False
    dark: bool = False


CONDITIONS: tuple[Condition, ...] = (
    Condition("frontal"),
    Condition("expression", expressive=True),
    Condition("occlusion", yaw=(0.0, 30.0), covered=True),
    Condition("turned", yaw=(25.0, 60.0), pitch=12.0),
    Condition("profile", yaw=(60.0, 90.0), pitch=8.0),
    Condition("selfie", yaw=(0.0, 20.0), distance=(0.26, 0.42), pitch=12.0),
    Condition("low light", yaw=(0.0, 20.0), dark=True),
)


@dataclass(frozen=True)
class OpenSet:
    """All pictures of one condition, one row per person.

    image: [N, 3, S, S].  neutral, posed: [N, V, 3], metres.
    points: [N, 68, 2] crop NDC.  mask: [N, S, S] skin.  expression_of: [N] number of the shared expression, −1 none.
    yaw: [N] degrees.  light: [N] mean grey level of the skin.
    """

    condition: Condition
    image: Tensor
    neutral: Tensor
    posed: Tensor
    points: Tensor
    mask: Tensor
    expression_of: Tensor
    yaw: Tensor
    light: Tensor
    parameters: FaceParameters


@torch.no_grad()
def photograph(head: HeadModel, people: People, condition: Condition, size: int = 224, seed: int = SEED) -> OpenSet:
    """Everybody once, under one condition."""
    count, number = len(people.shape), CONDITIONS.index(condition)
    draw = Draw.seeded(seed * 100 + number, "cpu")
    low, high = condition.yaw
    side = torch.where(draw.chance(count, p=0.5), 1.0, -1.0)
    yaw = side * draw.uniform(count, low=low, high=high)
    pitch = draw.uniform(count, low=-condition.pitch, high=condition.pitch)
    roll = draw.uniform(count, low=-6, high=6)
    rotation = rotation_from_angles(torch.deg2rad(yaw), torch.deg2rad(pitch), torch.deg2rad(roll))
    distance = draw.uniform(count, low=condition.distance[0], high=condition.distance[1])
    expression, jaw, which = _expressions(head, count, condition, seed)

    config = SyntheticConfig()
    chances = Chances(glasses=0.6, hat=0.3, occluder=0.7) if condition.covered else Chances.none()
    config = replace(config, chances=chances, degradation=replace(config.degradation, grey=0.0))
    generator = SyntheticFaces(head, size, config, backend="auto")
    parts = []
    for start in range(0, count, CHUNK):
        rows = slice(start, min(start + CHUNK, count))
        parts.append(
            generator.sample(
                rows.stop - rows.start,
                seed * 10_000 + 100 * number + start // CHUNK,
                shape=people.shape[rows],
                texture=people.texture[rows],
                expression=expression[rows],
                jaw=jaw[rows],
                rotation=rotation[rows],
                distance=distance[rows],
                beards=None if people.beards is None else people.beards[rows],
            )
        )
    image = torch.cat([part.image for part in parts])
    if condition.dark:
        image = low_light(image, draw)
    neutral, posed = torch.cat([p.neutral for p in parts]), torch.cat([p.vertices for p in parts])
    mask = torch.cat([p.mask for p in parts])[:, 0]
    grey = (image.mean(1) * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    return OpenSet(
        condition,
        image,
        neutral,
        posed,
        torch.cat([p.landmarks68 for p in parts]),
        mask,
        which,
        yaw,
        grey,
        FaceParameters.cat([p.parameters for p in parts]),
    )


def low_light(image: Tensor, draw: Draw) -> Tensor:
    """A tenth to a fiftieth of the light, most of it brought back by gain, with the noise that gain brings along."""
    gain = draw.log_uniform(len(image), 1, 1, 1, low=0.02, high=0.1)
    linear = image.clamp(0, 1) ** 2.2 * gain
    noise = draw.normal(*image.shape) * (linear * 0.002 + 0.001**2).sqrt()
    lifted = (linear + noise).clamp(min=0) * (0.3 / gain)
    return lifted.clamp(0, 1) ** (1 / 2.2)


def _expressions(head: HeadModel, count: int, condition: Condition, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [N, E], jaw [N, 3], and the number of each row's expression."""
    if not condition.expressive:
        return torch.zeros(count, head.sizes.expression), torch.zeros(count, 3), torch.full((count,), -1)
    has_jaw = bool((head.skinning_weights[:, 2] > 0.1).any())
    sampler = ExpressionSampler(head.expression_names, head.expression_range, has_jaw)
    shared = sampler.sample(Draw.seeded(seed, "cpu"), EXPRESSIONS)
    which = torch.arange(count) % EXPRESSIONS
    return shared.weights[which], shared.jaw[which], which
