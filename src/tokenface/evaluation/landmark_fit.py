"""Landmark-fitting baseline: a head model fitted to 468 detected points by Levenberg–Marquardt with priors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tokenface.geometry.camera import first_camera
from tokenface.geometry.levenberg_marquardt import DenseSystem, minimise
from tokenface.head.model import HeadModel

POINT_DEVIATION = 0.012
"""Crop half-widths that a detected point is away from where the model would put it."""
EXPRESSION_DEVIATION = 0.3
JAW_DEVIATION = 0.2
SHAPE_MODES = 60
ROUNDS = 25


@dataclass(frozen=True)
class LandmarkFit:
    """shape: [S], expression: [E], jaw: [3], camera: [7] as the network's components.  rms: of the points, NDC."""

    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    camera: np.ndarray
    rms: float


class LandmarkFitter:
    """Prepared once for a head model that knows the 468 points."""

    def __init__(self, head: HeadModel, modes: int = SHAPE_MODES):
        """Raises: ValueError: the head model has no 468-point correspondence."""
        if head.mesh468_faces is None:
            raise ValueError(f"'{head.name}' does not know the 468 points of the face mesh")
        self.head = head
        self.valid = head.mesh468_valid.numpy()
        self.modes = min(modes, head.sizes.shape)
        flat = torch.zeros(1, 3)
        open_jaw = torch.tensor([[0.05, 0.0, 0.0]])
        vertices = torch.cat([head(jaw=flat).vertices, head(jaw=open_jaw).vertices])
        points = self._points(vertices)
        basis = torch.cat([head.basis[: self.modes], head.basis[head.sizes.shape :]])
        linear = self._points(basis)
        self.mean = points[0]
        self.basis = np.concatenate([linear, (points[1:] - points[:1]) / 0.05])  # [K, N, 3]
        deviations = [1.0] * self.modes + [EXPRESSION_DEVIATION] * head.sizes.expression + [JAW_DEVIATION]
        self.prior = 1 / np.array(deviations)

    def _points(self, vertices: torch.Tensor) -> np.ndarray:
        return self.head.landmarks468(vertices).double().numpy()[:, self.valid]

    def fit(self, points: np.ndarray) -> LandmarkFit:
        """Args: points: [468, 2], crop NDC (x right, y down)."""
        target = np.asarray(points, np.float64)[self.valid, :2] * [1.0, -1.0]
        scale, rotation, shift = first_camera(self.mean, target)
        start = (scale, rotation, shift, np.zeros(len(self.basis)))
        found = minimise(start, lambda state: DenseSystem.of(*self._linear(state, target)), _moved, ROUNDS)
        return self._answer(found.state, target)

    def _linear(self, state: tuple, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (points, then priors) and by how much each falls per unit of turn, log scale, shift, weights."""
        scale, rotation, shift, weights = state
        points = self.mean + np.tensordot(weights, self.basis, 1)
        turned = points @ rotation.T
        gap = (target - scale * turned[:, :2] - shift) / POINT_DEVIATION
        count, unknowns = len(points), 6 + len(weights)
        jacobian = np.zeros((count, 2, unknowns))
        jacobian[:, 0, 1], jacobian[:, 0, 2] = scale * turned[:, 2], -scale * turned[:, 1]
        jacobian[:, 1, 0], jacobian[:, 1, 2] = -scale * turned[:, 2], scale * turned[:, 0]
        jacobian[:, :, 3] = scale * turned[:, :2]
        jacobian[:, 0, 4] = jacobian[:, 1, 5] = 1
        jacobian[:, :, 6:] = scale * np.einsum("knd,ed->nek", self.basis, rotation[:2])
        rows = np.hstack([np.zeros((len(weights), 6)), np.diag(self.prior)])
        return (
            np.concatenate([gap.ravel(), -self.prior * weights]),
            np.concatenate([jacobian.reshape(-1, unknowns) / POINT_DEVIATION, rows]),
        )

    def _answer(self, state: tuple, target: np.ndarray) -> LandmarkFit:
        scale, rotation, shift, weights = state
        sizes = self.head.sizes
        shape = np.zeros(sizes.shape)
        shape[: self.modes] = weights[: self.modes]
        expression = weights[self.modes : self.modes + sizes.expression]
        if self.head.expression_range is not None:
            expression = np.clip(expression, *self.head.expression_range)
        points = self.mean + np.tensordot(weights, self.basis, 1)
        gap = target - scale * points @ rotation[:2].T - shift
        turn = cv2.Rodrigues(rotation)[0].ravel()
        camera = np.array([scale, *turn, *shift, 0.0])
        return LandmarkFit(shape, expression, np.array([weights[-1], 0, 0]), camera, float(np.sqrt((gap**2).mean())))


def _moved(state: tuple, step: np.ndarray) -> tuple:
    scale, rotation, shift, weights = state
    turn = cv2.Rodrigues(np.clip(step[:3], -0.5, 0.5))[0]
    return scale * float(np.exp(np.clip(step[3], -0.5, 0.5))), turn @ rotation, shift + step[4:6], weights + step[6:]
