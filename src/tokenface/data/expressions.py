"""Expression sampler: sparse mixtures of ARKit actions, gaze and jaw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.data.draw import Draw

# Each pattern: how often, how far the jaw opens at full strength (0..1 of the jaw's range), and full-strength weights.
# A name without a side stands for both sides.
PATTERNS: dict[str, tuple[float, float, dict[str, float]]] = {
    "rest": (2.0, 0.03, {}),
    "smile": (2.0, 0.05, {"mouthSmile": 0.9, "cheekSquint": 0.5, "eyeSquint": 0.4, "mouthDimple": 0.3}),
    "grin": (
        1.6,
        0.25,
        {"mouthSmile": 1.0, "mouthUpperUp": 0.4, "mouthLowerDown": 0.3, "cheekSquint": 0.7, "eyeSquint": 0.5},
    ),
    "laugh": (
        1.0,
        0.75,
        {"mouthSmile": 0.9, "mouthUpperUp": 0.4, "cheekSquint": 0.9, "eyeSquint": 0.7, "jawOpen": 0.6},
    ),
    "talk_open": (2.2, 0.6, {"mouthLowerDown": 0.3, "jawOpen": 0.45, "mouthStretch": 0.2, "mouthUpperUp": 0.15}),
    "talk_round": (1.4, 0.45, {"mouthFunnel": 0.8, "jawOpen": 0.3, "mouthPucker": 0.3}),
    "talk_wide": (1.2, 0.3, {"mouthStretch": 0.6, "mouthLowerDown": 0.4, "jawOpen": 0.15, "mouthUpperUp": 0.3}),
    "lips_in": (0.8, 0.0, {"mouthRollLower": 0.7, "mouthRollUpper": 0.6, "mouthPress": 0.5}),
    "pucker": (0.7, 0.05, {"mouthPucker": 0.9, "mouthFunnel": 0.2}),
    "pout": (0.6, 0.0, {"mouthShrugLower": 0.8, "mouthShrugUpper": 0.4, "mouthFrown": 0.4}),
    "frown": (1.0, 0.0, {"browDown": 0.8, "eyeSquint": 0.3, "mouthPress": 0.3, "mouthFrown": 0.4}),
    "sad": (0.7, 0.02, {"browInnerUp": 0.9, "mouthFrown": 0.8, "mouthShrugLower": 0.4}),
    "surprise": (0.8, 0.6, {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.45}),
    "fear": (0.4, 0.3, {"browInnerUp": 0.9, "browOuterUp": 0.4, "eyeWide": 0.9, "mouthStretch": 0.6, "jawOpen": 0.2}),
    "anger": (
        0.6,
        0.25,
        {"browDown": 1.0, "noseSneer": 0.6, "mouthUpperUp": 0.5, "mouthLowerDown": 0.4, "eyeWide": 0.3},
    ),
    "disgust": (
        0.5,
        0.1,
        {"noseSneer": 0.9, "mouthUpperUp": 0.6, "browDown": 0.5, "eyeSquint": 0.5, "mouthFrown": 0.3},
    ),
    "shout": (
        0.4,
        1.0,
        {"jawOpen": 0.9, "mouthStretch": 0.4, "mouthLowerDown": 0.5, "browDown": 0.4, "eyeSquint": 0.4},
    ),
    "puff": (0.3, 0.0, {"cheekPuff": 0.9, "mouthPucker": 0.2, "mouthPress": 0.3}),
    "brows_up": (1.0, 0.0, {"browInnerUp": 0.6, "browOuterUp": 0.8}),
    "squint": (0.7, 0.0, {"eyeSquint": 0.8, "cheekSquint": 0.6, "browDown": 0.3}),
    "shift": (0.3, 0.0, {"mouthLeft": 0.7, "jawLeft": 0.5}),
    "shift_right": (0.3, 0.0, {"mouthRight": 0.7, "jawRight": 0.5}),
    "chin_forward": (0.2, 0.0, {"jawForward": 0.7}),
}
GAZE = ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut")
ONE_WAY = ("mouthLeft", "mouthRight", "jawLeft", "jawRight")
"""Named after where they move; no action of the other side goes with them."""
JAW_RANGE = 0.32
"""Radians that the jaw turns at full opening."""
ONE_SIDED = 0.5
"""Share of brows, smiles, sneers, squints and blinks that differ between the sides."""


@dataclass(frozen=True)
class Expressions:
    """weights: [B, E], head-model expression.  jaw: [B, 3] axis-angle.  gaze: [B, 2] right and up, radians."""

    weights: Tensor
    jaw: Tensor
    gaze: Tensor


class ExpressionSampler:
    """Draws expressions for one head model: ARKit mixtures where it has ARKit's names, else damped Gaussians."""

    def __init__(self, names: Sequence[str], allowed: tuple[float, float] | None, has_jaw_joint: bool = True):
        self.names = tuple(names)
        self.allowed = allowed
        index = {name: i for i, name in enumerate(names)}
        self.is_arkit = "browInnerUp" in index and ("mouthSmileLeft" in index or "mouthSmile_L" in index)
        self.has_jaw_joint = has_jaw_joint
        self._patterns = torch.zeros(len(PATTERNS), len(names))
        self._jaw = torch.tensor([p[1] for p in PATTERNS.values()])
        self._frequency = torch.tensor([p[0] for p in PATTERNS.values()])
        for row, (_, _, actions) in enumerate(PATTERNS.values()):
            for action, weight in actions.items():
                for i in sided(index, action):
                    self._patterns[row, i] = weight
        self._index = index
        # jawOpen beside a jaw joint would open the mouth twice; mouthClose only cancels jawOpen and never acts alone
        never = ("mouthClose", "tongueOut") + (("jawOpen",) if has_jaw_joint else ())
        self._free = torch.tensor([float(n not in never and not n.startswith(GAZE)) for n in names])
        if has_jaw_joint and "jawOpen" in index:
            self._patterns[:, index["jawOpen"]] = 0
        # corresponding actions of the two sides move together: partner[i] is the other side's column
        own = torch.arange(len(names))
        self._partner = torch.tensor(
            [i if n in ONE_WAY else index.get(other_side(n), i) for i, n in enumerate(names)], dtype=torch.long
        )
        self._pair, self._sided = torch.minimum(own, self._partner), self._partner != own
        self._is_left = torch.tensor([n.endswith(("Left", "_L")) for n in names], dtype=torch.bool)

    def sample(self, draw: Draw, batch: int) -> Expressions:
        gaze = _sample_gaze(draw, batch)
        if not self.is_arkit:
            return self._gaussian(draw, batch, gaze)
        device = draw.device
        strength = draw.uniform(batch, 2) ** constant([0.8, 2.0], device=device) * constant([1.0, 0.6], device=device)
        first, second = draw.pick(batch, self._frequency), draw.pick(batch, self._frequency)
        patterns, jaw_of = placed(self._patterns, device), placed(self._jaw, device)
        weights = strength[:, :1] * patterns[first] + strength[:, 1:] * patterns[second]
        opening = strength[:, 0] * jaw_of[first] + strength[:, 1] * jaw_of[second]

        # every face does it its own way: per-action strength, a few more single actions, sides that differ
        partner, free = placed(self._partner, device), placed(self._free, device)
        own = draw.uniform(batch, len(self.names), low=0.55, high=1.3)
        weights = weights * 0.5 * (own + own[:, partner])
        extra = draw.chance(batch, len(self.names), p=0.05) * draw.uniform(batch, len(self.names)) ** 2 * 0.8
        extra = torch.where(draw.chance(batch, 1, p=0.5), torch.maximum(extra, extra[:, partner]), extra)
        weights = self._one_sided(draw, weights + extra * free)

        left, right = self._lids(draw, batch)
        self._put(weights, "eyeBlinkLeft", left)
        self._put(weights, "eyeBlinkRight", right)
        self._put_gaze(weights, gaze)

        jaw = torch.zeros(batch, 3, device=device)
        if self.has_jaw_joint:
            jaw[:, 0] = (opening * draw.uniform(batch, low=0.7, high=1.2)).clamp(0, 1.1) * JAW_RANGE
            jaw[:, 1] = draw.normal(batch, std=0.02) * draw.chance(batch, p=0.3)
        return Expressions(self._clamp(weights), jaw, gaze)

    def _one_sided(self, draw: Draw, weights: Tensor) -> Tensor:
        """Half of all pairs of actions (brows, smiles, sneers, squints) made weaker on one side, mostly the same."""
        pair, sided = placed(self._pair, draw.device), placed(self._sided, draw.device)
        shape = weights.shape
        differs = draw.chance(*shape, p=ONE_SIDED)[:, pair]
        weak_is_left = (draw.chance(shape[0], 1, p=0.5) ^ draw.chance(*shape, p=0.2))[:, pair]
        weak = differs & (weak_is_left == placed(self._is_left, draw.device)) & sided
        return torch.where(weak, weights * draw.uniform(*shape), weights)

    def _lids(self, draw: Draw, batch: int) -> tuple[Tensor, Tensor]:
        """Blinks [B, 1] of the left and the right eye: mostly open, some shut; half of them differ, some are winks."""

        def one() -> Tensor:
            shut = draw.uniform(batch, 1, low=0.6, high=1.0)
            return torch.where(draw.chance(batch, 1, p=0.14), shut, draw.uniform(batch, 1) ** 3 * 0.5)

        left, other = one(), one()
        right = torch.where(draw.chance(batch, 1, p=ONE_SIDED), other, left)
        wink, left_winks = draw.chance(batch, 1, p=0.05), draw.chance(batch, 1, p=0.5)
        shut, open_ = draw.uniform(batch, 1, low=0.7, high=1.0), draw.uniform(batch, 1, high=0.25)
        left = torch.where(wink, torch.where(left_winks, shut, open_), left)
        right = torch.where(wink, torch.where(left_winks, open_, shut), right)
        return left, right

    def _gaussian(self, draw: Draw, batch: int, gaze: Tensor) -> Expressions:
        """Principal components of scans (FLAME): strong first modes, none far beyond two deviations."""
        weights = draw.normal(batch, len(self.names)).clamp(-2, 2) * draw.uniform(batch, 1, high=1.1)
        fade = torch.linspace(1, 0.4, max(len(self.names), 1), device=draw.device)[: len(self.names)]
        jaw = torch.zeros(batch, 3, device=draw.device)
        opening = torch.where(draw.chance(batch, p=0.5), draw.uniform(batch) ** 2, draw.uniform(batch) * 0.08)
        jaw[:, 0] = opening * JAW_RANGE
        return Expressions(self._clamp(weights * fade), jaw, gaze)

    def _put(self, weights: Tensor, name: str, value: Tensor) -> None:
        if name in self._index:
            column = self._index[name]
            weights[:, column] = torch.maximum(weights[:, column], value.squeeze(-1))

    def _put_gaze(self, weights: Tensor, gaze: Tensor) -> None:
        """ARKit's look actions reach full strength near 30 degrees; 'in' is towards the nose."""
        right, up = gaze[:, :1] / 0.55, gaze[:, 1:] / 0.45
        for side, sign in (("Left", 1.0), ("Right", -1.0)):  # looking right on the picture = the left eye looks out
            self._put(weights, f"eyeLookOut{side}", (sign * right).clamp(0, 1))
            self._put(weights, f"eyeLookIn{side}", (-sign * right).clamp(0, 1))
            self._put(weights, f"eyeLookUp{side}", up.clamp(0, 1))
            self._put(weights, f"eyeLookDown{side}", (-up).clamp(0, 1))

    def _clamp(self, weights: Tensor) -> Tensor:
        return weights if self.allowed is None else weights.clamp(*self.allowed)


def _sample_gaze(draw: Draw, batch: int) -> Tensor:
    """[B, 2] right on the picture and up, radians: a third near the camera, a third around it, a third anywhere."""
    kind = draw.uniform(batch, 1)
    near, around = draw.normal(batch, 2, std=0.06), draw.normal(batch, 2, std=0.22)
    anywhere = draw.uniform(batch, 2, low=-0.55, high=0.55)
    gaze = torch.where(kind < 1 / 3, near, torch.where(kind < 2 / 3, around, anywhere))
    return gaze.clamp(-0.55, 0.55) * constant([1.0, 0.7], device=draw.device)


def other_side(name: str) -> str:
    """`mouthSmileLeft` ↔ `mouthSmileRight`, `browDown_L` ↔ `browDown_R`; a name without a side is its own."""
    for left, right in (("Left", "Right"), ("_L", "_R")):
        if name.endswith(left):
            return name.removesuffix(left) + right
        if name.endswith(right):
            return name.removesuffix(right) + left
    return name


def sided(index: dict[str, int], action: str) -> list[int]:
    """Columns of an action: itself, or its two sides."""
    return [index[n] for n in (action, f"{action}Left", f"{action}Right", f"{action}_L", f"{action}_R") if n in index]
