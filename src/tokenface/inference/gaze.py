"""Where a face looks and whether its lids are shut, from the eye joints and actions; head pose in degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from tokenface.formats.rig import rotation_matrix
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

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


def eye_rotations(head: HeadModel, expression: torch.Tensor) -> np.ndarray:
    """[..., E] expression weights → [..., 2, 3] axis-angle of the left and right eye, radians; zeros where the head
    model does not drive its eyes."""
    if head.data.eye_drive is None:
        return np.zeros((*expression.shape[:-1], 2, 3))
    return np.tensordot(expression.numpy().astype(np.float64), np.asarray(head.data.eye_drive, np.float64), axes=1)


def gaze_of(head: HeadModel, parameters: FaceParameters, camera: FaceCamera) -> Gaze:
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


def blink_of(head: HeadModel, parameters: FaceParameters) -> tuple[float, float] | None:
    """How far the left and the right eye are shut, in [0, 1]; None where the head model has no such action."""
    names = ("eyeBlinkLeft", "eyeBlinkRight")
    if not set(names) <= set(head.expression_names):
        return None
    weights = [float(parameters.expression[head.expression_names.index(name)]) for name in names]
    return min(max(weights[0], 0.0), 1.0), min(max(weights[1], 0.0), 1.0)
