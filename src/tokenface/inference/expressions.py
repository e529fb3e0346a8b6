"""Expression in ARKit's coefficients, gaze and blinks, and ARKit's jaw actions as displacements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arkit import ARKIT_NAMES, JAW_OPEN_ANGLE, JAW_SIDE_ANGLE, arkit_array
from tokenface.head.arrays import AnyHead, arrays_of
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from torch import Tensor

JAW_TURNS = {
    "jawOpen": [JAW_OPEN_ANGLE, 0.0, 0.0],
    "jawLeft": [0.0, JAW_SIDE_ANGLE, 0.0],
    "jawRight": [0.0, -JAW_SIDE_ANGLE, 0.0],
}
"""Axis-angle of the jaw at weight 1 of each of its actions, radians."""


def speaks_arkit(head: AnyHead) -> bool:
    """Whether the head model's expressions are ARKit's actions (OpenHead, ICT); FLAME's are not."""
    return bool(head.expression_names) and set(head.expression_names) <= set(ARKIT_NAMES)


def arkit_weights(head: AnyHead, parameters: FaceParameters) -> dict[str, float] | None:
    """The 52 ARKit coefficients in [0, 1] of one face; None where the head model does not speak ARKit."""
    if not speaks_arkit(head):
        return None
    weights = arkit_array(head, np.asarray(parameters.expression), np.asarray(parameters.jaw))
    return dict(zip(ARKIT_NAMES, weights.tolist(), strict=True))


def jaw_displacements(head: AnyHead, shape: np.ndarray) -> dict[str, np.ndarray]:
    """The jaw actions that the head model leaves to its jaw joint, as displacements [V, 3] of a person's neutral head.

    Straight lines in place of arcs: for players that know morph targets alone. shape: [S].
    """
    missing = [name for name in JAW_TURNS if name not in head.expression_names] if speaks_arkit(head) else []
    if not missing:
        return {}
    decoder, relaxed = arrays_of(head), np.zeros(len(head.expression_names), np.float32)
    neutral = decoder.vertices(shape, relaxed, np.zeros(3))
    return {name: decoder.vertices(shape, relaxed, np.array(JAW_TURNS[name])) - neutral for name in missing}


def joint_drive(head: AnyHead) -> dict[str, dict[str, list[float]]]:
    """Action → joint → axis-angle in radians per unit of weight: what turns the joints along with the morphs."""
    facts: dict[str, dict[str, list[float]]] = {}
    if head.data.eye_drive is not None:
        for name, rotations in zip(head.expression_names, head.data.eye_drive, strict=True):
            for joint, rotation in zip(("left_eye", "right_eye"), rotations, strict=True):
                if np.abs(rotation).max() > 1e-6:
                    facts.setdefault(name, {})[joint] = [round(float(x), 6) for x in rotation]
    if speaks_arkit(head):
        facts |= {name: {"jaw": turn} for name, turn in JAW_TURNS.items() if name not in head.expression_names}
    return facts


SHUT = 0.6
"""Lid weight from which an eye counts as shut."""


@dataclass(frozen=True)
class Gaze:
    """Directions as yaw (right on the picture) and pitch (up), degrees.

    left, right: of each eye in its head.  in_picture: of both eyes' mean against the camera's axis: (0, 0) looks into
    the lens.  direction: [3] unit vector of that in the picture's axes: x right, y up, z towards the viewer.
    """

    left: tuple[float, float]
    right: tuple[float, float]
    in_picture: tuple[float, float]
    direction: np.ndarray


def eye_rotations(head: AnyHead, expression: np.ndarray | Tensor) -> np.ndarray:
    """[..., E] expression weights → [..., 2, 3] axis-angle of the left and right eye, radians; zeros where the head
    model does not drive its eyes."""
    if head.data.eye_drive is None:
        return np.zeros((*expression.shape[:-1], 2, 3))
    return np.tensordot(np.asarray(expression, np.float64), np.asarray(head.data.eye_drive, np.float64), axes=1)


def gaze_of(head: AnyHead, parameters: FaceParameters, camera: FaceCamera) -> Gaze:
    """Gaze of one face (every tensor [size])."""
    forward = np.array([rotation_matrix(eye) @ [0.0, 0.0, 1.0] for eye in eye_rotations(head, parameters.expression)])
    mean = camera.rotation @ forward.mean(axis=0)
    mean = mean / np.linalg.norm(mean)
    left, right = (yaw_pitch(eye) for eye in forward)
    return Gaze(left, right, yaw_pitch(mean), mean)


def yaw_pitch(direction: np.ndarray) -> tuple[float, float]:
    """Unit vector (x right on the picture, y up, z towards the viewer) → degrees to the right and up."""
    x, y, z = (float(value) for value in direction)
    return math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(-1.0, min(1.0, y))))


def blink_of(head: AnyHead, parameters: FaceParameters) -> tuple[float, float] | None:
    """Closure of the left and the right eye, in [0, 1]; None where the head model has no such action."""
    names = ("eyeBlinkLeft", "eyeBlinkRight")
    if not set(names) <= set(head.expression_names):
        return None
    weights = [float(parameters.expression[head.expression_names.index(name)]) for name in names]
    return min(max(weights[0], 0.0), 1.0), min(max(weights[1], 0.0), 1.0)
