"""A face's expression in ARKit's words, and ARKit's jaw actions as displacements."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.head.arkit import ARKIT_NAMES, JAW_OPEN_ANGLE, JAW_SIDE_ANGLE, arkit_to_jaw, to_arkit
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

JAW_ACTIONS = ("jawOpen", "jawLeft", "jawRight")


def speaks_arkit(head: HeadModel) -> bool:
    """Whether the head model's expressions are ARKit's actions (OpenHead, ICT); FLAME's are not."""
    return bool(head.expression_names) and set(head.expression_names) <= set(ARKIT_NAMES)


def arkit_weights(head: HeadModel, parameters: FaceParameters) -> dict[str, float] | None:
    """The 52 ARKit coefficients in [0, 1] of one face; None where the head model does not speak ARKit."""
    if not speaks_arkit(head):
        return None
    weights = to_arkit(head, parameters.expression[None], parameters.jaw[None])[0]
    return dict(zip(ARKIT_NAMES, weights.tolist(), strict=True))


def jaw_displacements(head: HeadModel, shape: Tensor) -> dict[str, np.ndarray]:
    """The jaw actions that the head model leaves to its jaw joint, as displacements [V, 3] of a person's neutral head.

    Straight lines in place of arcs: for players that know morph targets alone. shape: [S].
    """
    missing = [name for name in JAW_ACTIONS if name not in head.expression_names] if speaks_arkit(head) else []
    if not missing:
        return {}
    switches = torch.eye(3)
    jaw = arkit_to_jaw(switches[0], switches[1], switches[2])
    with torch.inference_mode():
        neutral = head(shape[None]).vertices[0]
        opened = head(shape[None].expand(3, -1), jaw=jaw).vertices
    return {name: (opened[JAW_ACTIONS.index(name)] - neutral).numpy() for name in missing}


def joint_drive(head: HeadModel) -> dict[str, dict[str, list[float]]]:
    """Action → joint → axis-angle in radians per unit of weight: what turns the joints along with the morphs."""
    facts: dict[str, dict[str, list[float]]] = {}
    if head.data.eye_drive is not None:
        for name, rotations in zip(head.expression_names, head.data.eye_drive, strict=True):
            for joint, rotation in zip(("left_eye", "right_eye"), rotations, strict=True):
                if np.abs(rotation).max() > 1e-6:
                    facts.setdefault(name, {})[joint] = [round(float(x), 6) for x in rotation]
    if speaks_arkit(head):
        turns = {
            "jawOpen": [JAW_OPEN_ANGLE, 0.0, 0.0],
            "jawLeft": [0.0, JAW_SIDE_ANGLE, 0.0],
            "jawRight": [0.0, -JAW_SIDE_ANGLE, 0.0],
        }
        facts |= {name: {"jaw": turn} for name, turn in turns.items() if name not in head.expression_names}
    return facts
