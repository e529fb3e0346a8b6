"""A head model's vertices and landmarks in NumPy, one face at a time: what `HeadModel` gives, without torch."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.head.data import JAW, JOINT_NAMES, JOINT_PARENTS, LEFT_EYE, RIGHT_EYE, HeadData
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from tokenface.head.model import HeadModel

AnyHead: TypeAlias = "HeadModel | HeadArrays"
"""Both give `data`, names, `posed`, `points68` and `points468` alike."""


class HeadArrays:
    """The head model of FLAME's formulation (Eq. 4), as `HeadModel`, for one face and no gradients."""

    def __init__(self, data: HeadData):
        self.data = data
        self.name = data.name
        self.expression_names = data.expression_names
        self.expression_range = data.expression_range
        self.sizes = data.sizes

    @cached_property
    def _basis(self) -> np.ndarray:
        """[S + E, V·3] float32."""
        bases = [self.data.shape_basis, self.data.expression_basis]
        return np.concatenate(bases).astype(np.float32).reshape(self.sizes.shape + self.sizes.expression, -1)

    def posed(self, parameters: FaceParameters, neutral: bool = False) -> np.ndarray:
        """[V, 3] float32, metres, of one face, every array [size]; neutral: with a relaxed face."""
        shape, expression, jaw = (np.asarray(one) for one in (parameters.shape, parameters.expression, parameters.jaw))
        rest = np.float32(0.0 if neutral else 1.0)
        return self.vertices(shape, expression * rest, jaw * rest)

    def vertices(self, shape: np.ndarray, expression: np.ndarray, jaw: np.ndarray) -> np.ndarray:
        """Shape [S], expression [E], jaw [3] (axis-angle, radians) → [V, 3] float32, metres, head space."""
        data = self.data
        coefficients = np.concatenate([shape, expression]).astype(np.float32)
        rotations = np.zeros((len(JOINT_NAMES), 3))
        rotations[JAW] = jaw
        if data.eye_drive is not None:
            rotations[[LEFT_EYE, RIGHT_EYE]] = np.tensordot(expression, data.eye_drive, axes=1)
        matrices = np.stack([rotation_matrix(rotation) for rotation in rotations])
        rest = data.template.astype(np.float32) + (coefficients @ self._basis).reshape(-1, 3)
        if data.pose_basis is not None:
            turned = (matrices[1:] - np.eye(3)).reshape(-1).astype(np.float32)
            rest = rest + np.tensordot(turned, data.pose_basis.astype(np.float32), axes=1)
        joints = data.joint_template + np.tensordot(coefficients.astype(np.float64), data.joint_basis, axes=1)
        return _skinned(rest, joints, matrices, data.skinning_weights)

    def points68(self, vertices: np.ndarray, yaw: float) -> np.ndarray:
        """[68, 3] of one face's vertices [V, 3]; points 0–16 slide along the jaw with yaw, radians."""
        data = self.data
        row = round(math.degrees(yaw)) - data.contour_first_yaw
        row = min(max(row, 0), len(data.contour_faces) - 1)
        contour = _on_triangles(vertices, data.faces[data.contour_faces[row]], data.contour_barycentrics[row])
        static = data.faces[data.static_landmark_faces]
        return np.concatenate([contour, _on_triangles(vertices, static, data.static_landmark_barycentrics)])

    def points468(self, vertices: np.ndarray) -> np.ndarray | None:
        """[468, 3] of one face's vertices [V, 3], NaN where the head has no such point; None where it has none."""
        data = self.data
        if data.mesh468_faces is None or data.mesh468_barycentrics is None:
            return None
        corners = data.faces[data.mesh468_faces.clip(min=0)]
        points = _on_triangles(vertices, corners, data.mesh468_barycentrics)
        points[data.mesh468_faces < 0] = np.nan
        return points

    def clamp_expression(self, expression: np.ndarray) -> np.ndarray:
        """Weights brought into the range that the model allows."""
        return expression if self.expression_range is None else expression.clip(*self.expression_range)


_arrays_of: WeakKeyDictionary[HeadModel, HeadArrays] = WeakKeyDictionary()


def arrays_of(head: AnyHead) -> HeadArrays:
    """A head model in NumPy, made once."""
    if isinstance(head, HeadArrays):
        return head
    if head not in _arrays_of:
        _arrays_of[head] = HeadArrays(head.data)
    return _arrays_of[head]


def _on_triangles(vertices: np.ndarray, corners: np.ndarray, barycentrics: np.ndarray) -> np.ndarray:
    """Vertices [V, 3] at corners [K, 3] with barycentrics [K, 3] → points [K, 3]."""
    return np.einsum("kcd,kc->kd", vertices[corners], barycentrics.astype(np.float32))


def _skinned(rest: np.ndarray, joints: np.ndarray, rotations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear blend skinning: rest [V, 3], joints [J, 3], rotations [J, 3, 3], weights [V, J] → [V, 3] float32."""
    turns: list[np.ndarray] = []
    offsets: list[np.ndarray] = []
    for joint, parent in enumerate(JOINT_PARENTS):
        turn, offset = rotations[joint], joints[joint] - rotations[joint] @ joints[joint]
        if parent >= 0:
            turn, offset = turns[parent] @ turn, turns[parent] @ offset + offsets[parent]
        turns.append(turn)
        offsets.append(offset)
    blended = np.tensordot(weights, np.stack(turns), axes=1)
    return (np.einsum("vmn,vn->vm", blended, rest) + weights @ np.stack(offsets)).astype(np.float32)
