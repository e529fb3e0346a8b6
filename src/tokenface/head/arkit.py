"""Conversion between ARKit's 52 actions and a head model's expression weights and jaw rotation.

OpenHead's expression weights *are* ARKit actions, apart from what its joints do: jawOpen, jawLeft and jawRight come
from the jaw's rotation. A head that has these three as shapes (ICT-FaceKit) opens the mouth by them: its joint adds to
them, and is left at rest when weights are written to it. tongueOut is not modelled and stays 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from tokenface.errors import HeadModelError

if TYPE_CHECKING:
    from torch import Tensor

ARKIT_NAMES: tuple[str, ...] = (
    *("eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft"),
    *("eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight"),
    *("eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel"),
    *("mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight"),
    *("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft"),
    *("browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft"),
    *("cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""Apple's names (ARFaceAnchor.BlendShapeLocation), in the order of its Live Link tools."""

JAW_OPEN_ANGLE = 0.43
"""Radians of jaw rotation about +x at jawOpen = 1."""
JAW_SIDE_ANGLE = 0.10
"""Radians of jaw rotation about ±y at jawLeft = 1 or jawRight = 1: about 7 mm at the teeth."""


class ArkitHead(Protocol):
    """Protocol of a head model with ARKit's actions."""

    name: str
    expression_names: tuple[str, ...]


def jaw_to_arkit(jaw: Tensor) -> dict[str, Tensor]:
    """Axis-angle [..., 3] in radians → jawOpen, jawLeft, jawRight, each [...] in [0, 1]."""
    opening, turn = jaw[..., 0], jaw[..., 1]
    return {
        "jawOpen": (opening / JAW_OPEN_ANGLE).clamp(0, 1),
        "jawLeft": (turn / JAW_SIDE_ANGLE).clamp(0, 1),
        "jawRight": (-turn / JAW_SIDE_ANGLE).clamp(0, 1),
    }


def arkit_to_jaw(jaw_open: Tensor, jaw_left: Tensor, jaw_right: Tensor) -> Tensor:
    """The three actions [...] → axis-angle [..., 3], radians; the inverse of `jaw_to_arkit` inside its range."""
    import torch

    turn = (jaw_left - jaw_right) * JAW_SIDE_ANGLE
    return torch.stack([jaw_open * JAW_OPEN_ANGLE, turn, torch.zeros_like(turn)], dim=-1)


def to_arkit(head: ArkitHead, expression: Tensor, jaw: Tensor) -> Tensor:
    """Expression [B, E] and jaw [B, 3] → [B, 52] weights in [0, 1], order ARKIT_NAMES.

    Raises:
        HeadModelError: the head model's expressions are not ARKit actions.
    """
    columns = _columns(head)
    weights = expression.new_zeros(expression.shape[0], len(ARKIT_NAMES))
    weights[:, columns] = expression.clamp(0, 1)
    for name, value in jaw_to_arkit(jaw).items():
        column = ARKIT_NAMES.index(name)
        weights[:, column] = (weights[:, column] + value).clamp(0, 1)
    return weights


def arkit_array(head: ArkitHead, expression: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """`to_arkit` of one face in NumPy: expression [E] and jaw [3] → [52]."""
    weights = np.zeros(len(ARKIT_NAMES), np.float32)
    weights[_columns(head)] = np.clip(expression, 0, 1)
    opening, turn = jaw[0] / JAW_OPEN_ANGLE, jaw[1] / JAW_SIDE_ANGLE
    for name, value in (("jawOpen", opening), ("jawLeft", turn), ("jawRight", -turn)):
        column = ARKIT_NAMES.index(name)
        weights[column] = np.clip(weights[column] + np.clip(value, 0, 1), 0, 1)
    return weights


def from_arkit(head: ArkitHead, weights: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 52] weights → expression [B, E] and jaw [B, 3].

    Raises:
        HeadModelError: the head model's expressions are not ARKit actions.
    """
    if weights.shape[-1] != len(ARKIT_NAMES):
        raise ValueError(f"expected {len(ARKIT_NAMES)} ARKit weights per face, got {tuple(weights.shape)}")
    by_joint = [
        weights[:, ARKIT_NAMES.index(name)] * (name not in head.expression_names)
        for name in ("jawOpen", "jawLeft", "jawRight")
    ]
    return weights[:, _columns(head)], arkit_to_jaw(*by_joint)


def _columns(head: ArkitHead) -> list[int]:
    unknown = [name for name in head.expression_names if name not in ARKIT_NAMES]
    if unknown or not head.expression_names:
        raise HeadModelError(
            f"head model '{head.name}' has no ARKit expressions (its own: {', '.join(unknown[:3]) or 'none'}…); "
            "use OpenHead for ARKit output"
        )
    return [ARKIT_NAMES.index(name) for name in head.expression_names]
