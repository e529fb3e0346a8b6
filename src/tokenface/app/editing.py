"""Edits of a reconstructed face: expression, head pose, light, blend with another identity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tokenface.data.sampling import rotation_from_angles
from tokenface.errors import TokenFaceError
from tokenface.geometry import rotations
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arkit import ARKIT_NAMES, from_arkit
from tokenface.inference.blending import blended_parameters, check_same_head
from tokenface.inference.expressions import arkit_weights
from tokenface.inference.face import Face
from tokenface.parameters import FaceParameters
from tokenface.render.shading import sh_basis

SPHERE_POINTS = 64
"""Directions over which turned light is fitted; nine harmonics need nine."""


@dataclass(frozen=True)
class Edit:
    """Changes to a face; what is left out stays as it was found.

    arkit: ARKit weights by name, in [0, 1].  angles: yaw, pitch, roll on the photo, radians (`Camera.angles`).
    light_turn, light_height: radians by which the light moves to the right and up.  light_strength: factor.
    other: a person to blend with.  share: of the other in shape and albedo, 0 to 1.
    """

    arkit: Mapping[str, float] = field(default_factory=dict)
    angles: tuple[float, float, float] | None = None
    light_turn: float = 0.0
    light_height: float = 0.0
    light_strength: float = 1.0
    other: Face | None = None
    share: float = 0.0


def edited(face: Face, edit: Edit) -> Face:
    """The changed face; `face` stays as it is.

    Raises:
        TokenFaceError: expressions of a head model without ARKit's actions, an unknown action, another head model.
    """
    parameters = face.parameters
    if edit.arkit:
        parameters = _with_expression(face, edit.arkit)
    if edit.other is not None and edit.share > 0:
        check_same_head(face, edit.other)
        parameters = blended_parameters(parameters, edit.other.parameters, edit.share)
    if edit.light_turn or edit.light_height or edit.light_strength != 1:
        light = turned_light(parameters.light.reshape(9, 3), edit.light_turn, edit.light_height)
        parameters = parameters.replace(light=(light * edit.light_strength).reshape(-1))
    camera = face.camera
    if edit.angles is not None and not np.allclose(edit.angles, camera.angles, atol=1e-6):
        camera = _turned(face, edit.angles)
        parameters = parameters.replace(camera=torch.from_numpy(camera.vector).float())
    return replace(face, parameters=parameters, camera=camera)


def turned_light(light: Tensor, turn: float, height: float) -> Tensor:
    """SH light [9, 3] whose source moved by `turn` radians to the right of the picture and `height` up.

    Harmonics of one degree stay among themselves when they are turned, so the fit on the sphere is exact.
    """
    rotation = light_rotation(turn, height).to(light.dtype)
    directions = _sphere(SPHERE_POINTS).to(light.dtype)
    # a surface facing d now receives what one facing R⁻¹ d received before
    before = sh_basis(directions @ rotation) @ light
    return torch.linalg.lstsq(sh_basis(directions), before).solution


def light_rotation(turn: float, height: float) -> Tensor:
    """[3, 3] of directions in camera space (x right, y up, z towards the viewer): up first, then to the right."""
    return _rotation(turn, height, 0.0)


def _rotation(yaw: float, pitch: float, roll: float) -> Tensor:
    """[3, 3] float64 of angles in radians."""
    return rotation_from_angles(*(torch.tensor([angle], dtype=torch.float64) for angle in (yaw, pitch, roll)))[0]


def _with_expression(face: Face, weights: Mapping[str, float]) -> FaceParameters:
    """What ARKit has no word for (a jaw that slides, say) stays: only the difference is added."""
    before = arkit_weights(face.head, face.parameters)
    if before is None:
        raise TokenFaceError(f"head model '{face.head.name}' has no ARKit expressions; use OpenHead for these")
    if unknown := sorted(set(weights) - set(ARKIT_NAMES)):
        raise TokenFaceError(f"'{unknown[0]}' is not one of ARKit's 52 actions")
    after = {**before, **{name: min(max(float(weight), 0.0), 1.0) for name, weight in weights.items()}}
    both = torch.tensor([[row[name] for name in ARKIT_NAMES] for row in (before, after)])
    expression, jaw = from_arkit(face.head, both)
    parameters = face.parameters
    return parameters.replace(
        expression=face.head.clamp_expression(parameters.expression + expression[1] - expression[0]),
        jaw=parameters.jaw + jaw[1] - jaw[0],
    )


def _turned(face: Face, angles: tuple[float, float, float]) -> FaceCamera:
    """The camera that shows the head at these angles; the middle of the head stays where it is."""
    camera = face.camera
    back = rotations.rotvec_to_rotmat(torch.tensor([0.0, 0.0, -camera.crop.angle], dtype=torch.float64))
    in_crop = back @ _rotation(*angles)
    before = rotations.rotvec_to_rotmat(torch.from_numpy(camera.vector[1:4]))
    middle = torch.from_numpy(face.vertices.mean(axis=0)).double()
    vector = torch.from_numpy(camera.vector.copy())
    vector[4:] += vector[0] * (before - in_crop) @ middle
    vector[1:4] = rotations.rotmat_to_rotvec(in_crop)
    return replace(camera, vector=vector.numpy())


def _sphere(count: int) -> Tensor:
    """[N, 3] directions spread evenly (a spiral)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)
