"""Levenberg–Marquardt on the 468 face-mesh points: one shape, and an expression, jaw and view for every photo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch import Tensor

from tokenface.errors import HeadModelError
from tokenface.geometry.levenberg_marquardt import DenseSystem, SharedSystem, minimise
from tokenface.head.model import JAW, HeadModel
from tokenface.refinement.view import UNKNOWNS, View


class MeshPoints:
    """Shape, expression and jaw to the face-mesh points of a head.

    Only the jaw turns, so a vertex x of jaw weight w goes to `x + w (R − I)(x − j)`. Summed over a triangle with
    barycentrics b this is `X + (R − I)(Y − W j)` with `X = Σ b x`, `Y = Σ b w x`, `W = Σ b w`; X, Y and the joint j are
    linear in the coefficients.

    valid: [468] bool, the points that the head has; all others are left out of every array (N of them remain).
    """

    def __init__(self, head: HeadModel):
        """Raises HeadModelError: the head model has no face-mesh correspondence, or pose correctives."""
        if head.mesh468_faces is None:
            raise HeadModelError(
                f"head model '{head.name}' does not know the 468 points of the face mesh, which refinement follows; "
                "use weights of 'openhead'"
            )
        if head.pose_basis is not None:
            raise HeadModelError(f"refinement does not know the pose correctives of head model '{head.name}'")
        self.valid = head.mesh468_valid.cpu().numpy()
        corners = head.faces[head.mesh468_faces.clamp(min=0)].cpu().numpy()[self.valid]
        share = head.mesh468_barycentrics.cpu().double().numpy()[self.valid]
        weighted = share * head.skinning_weights.cpu().double().numpy()[corners, JAW]
        self.vertex = corners[np.arange(len(corners)), share.argmax(1)]
        self.turning = weighted.sum(1)
        self.mean, self.mean_turning = (_on(head.template[None], corners, w)[0] for w in (share, weighted))
        self.basis, self.basis_turning = (_on(head.basis, corners, w) for w in (share, weighted))
        self.joint = head.joint_template.cpu().double().numpy()[JAW]
        self.joint_basis = head.joint_basis.cpu().double().numpy()[:, JAW]
        self.shape_size, self.expression_size = head.sizes.shape, head.sizes.expression

    def __len__(self) -> int:
        return len(self.turning)

    def __call__(self, coefficients: np.ndarray, jaw: np.ndarray) -> np.ndarray:
        """[K] shape then expression, [3] axis-angle → [N, 3], metres, head space."""
        still, arm = self._parts(coefficients)
        return still + arm @ (cv2.Rodrigues(jaw)[0] - np.eye(3)).T

    def derivatives(
        self, coefficients: np.ndarray, jaw: np.ndarray, wanted: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the points: by the wanted coefficients [K, N, 3] and by the jaw's axis-angle [3, N, 3]."""
        turn, by_jaw = cv2.Rodrigues(np.asarray(jaw, np.float64))
        arm = self._parts(coefficients)[1]
        if np.allclose(turn, np.eye(3)):
            by_coefficients = self.basis[wanted]
        else:
            arms = self.basis_turning[wanted] - self.turning[:, None] * self.joint_basis[wanted][:, None]
            by_coefficients = self.basis[wanted] + arms @ (turn - np.eye(3)).T
        return by_coefficients, np.einsum("nj,kij->kni", arm, by_jaw.reshape(3, 3, 3))

    def _parts(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        still = self.mean + np.tensordot(coefficients, self.basis, 1)
        joint = self.joint + coefficients @ self.joint_basis
        arm = self.mean_turning + np.tensordot(coefficients, self.basis_turning, 1) - self.turning[:, None] * joint
        return still, arm


def _on(vertices: Tensor, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B, V, 3], [N, 3], [N, 3] → [B, N, 3] float64."""
    picked = vertices.cpu().numpy()[:, corners].astype(np.float64)
    return np.einsum("bncd,nc->bnd", picked, weights)


OUTLIER = 3.0
"""Standard deviations from which a point counts ever less (Geman and McClure would say less yet; this is Cauchy's)."""
ROUNDS = 12
FIXED = 1e-9
"""Prior deviation of expressions, jaws and views that may not move; shape modes of deviation 0 are left out."""


@dataclass(frozen=True)
class PhotoPose:
    """expression: [E].  jaw: [3].  view.  error_modes: [M] coefficients of this photo's error modes."""

    expression: np.ndarray
    jaw: np.ndarray
    view: View
    error_modes: np.ndarray


@dataclass(frozen=True)
class Observed:
    """The points of one photo, crop NDC with y up.

    target: [N, 2], without what is known of their bias.  deviation: [N] per coordinate, inf for points that are hidden.
    error_modes: [M, N, 2], patterns of common error.  start: the pose to start from and not to leave far behind.
    turn: [2, 2] from the upright face's axes to the crop's.
    """

    target: np.ndarray
    deviation: np.ndarray
    error_modes: np.ndarray
    start: PhotoPose
    turn: np.ndarray


@dataclass(frozen=True)
class Deviations:
    """Prior standard deviations of the start: shape [S], expression [E], jaw [3], view [6] (places in
    metres at the face).  0 holds a number where it is."""

    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    view: np.ndarray


@dataclass(frozen=True)
class Fitted:
    shape: np.ndarray
    poses: tuple[PhotoPose, ...]


def fit_points(
    model: MeshPoints,
    shape: np.ndarray,
    photos: list[Observed],
    deviations: Deviations,
    expression_range: tuple[float, float] | None = None,
    rounds: int = ROUNDS,
) -> Fitted:
    """Shape and poses of greatest posterior probability.

    Args:
        shape: [S] to start from.  photos: of one person.  expression_range: allowed weights.
    """

    free = np.flatnonzero(deviations.shape)

    def linearise(state: Fitted) -> SharedSystem:
        blocks = tuple(
            _photo_system(model, state.shape, free, pose, photo, deviations)
            for pose, photo in zip(state.poses, photos, strict=True)
        )
        precision = 1 / deviations.shape[free] ** 2
        away = (state.shape - shape)[free]
        common = DenseSystem(float(precision @ away**2), np.diag(precision), -precision * away)
        return SharedSystem(blocks, common, len(free))

    def moved(state: Fitted, step: tuple[np.ndarray, list[np.ndarray]]) -> Fitted:
        shared, own = np.zeros(len(shape)), step[1]
        shared[free] = step[0]
        poses = tuple(
            _moved(pose, part, photo, expression_range)
            for pose, part, photo in zip(state.poses, own, photos, strict=True)
        )
        return Fitted(state.shape + shared, poses)

    start = Fitted(np.asarray(shape, np.float64), tuple(photo.start for photo in photos))
    return minimise(start, linearise, moved, rounds, tolerance=1e-4).state


def _photo_system(
    model: MeshPoints,
    shape: np.ndarray,
    free: np.ndarray,
    pose: PhotoPose,
    photo: Observed,
    deviations: Deviations,
) -> DenseSystem:
    """The free shape modes first, then expression, jaw, view and error_modes."""
    coefficients = np.concatenate([shape, pose.expression])
    seen = np.flatnonzero(np.isfinite(photo.deviation))
    points = model(coefficients, pose.jaw)[seen]
    wanted = np.concatenate([free, np.arange(len(shape), len(coefficients))])
    by_coefficients, by_jaw = model.derivatives(coefficients, pose.jaw, wanted)
    by_point, by_view = pose.view.derivatives(points)
    sigma, error_modes = photo.deviation[seen], photo.error_modes[:, seen]
    gap = photo.target[seen] - pose.view.project(points) - np.tensordot(pose.error_modes, error_modes, 1)
    gap /= sigma[:, None]

    columns = [np.matmul(by_point, part[:, seen].transpose(1, 2, 0)) for part in (by_coefficients, by_jaw)]
    jacobian = np.concatenate([*columns, by_view @ view_units(photo), error_modes.transpose(1, 2, 0)], axis=2)
    length = np.square(gap).sum(1)
    weight = 1 / (1 + length / (2 * OUTLIER**2))  # Cauchy's: the derivative of its cost, so that steps descend it
    root = np.sqrt(weight) / sigma
    flat = (jacobian * root[:, None, None]).reshape(-1, jacobian.shape[2])
    robust_gap = (gap * np.sqrt(weight)[:, None]).ravel()

    s = len(free)
    start = photo.start
    away = np.concatenate(
        [
            pose.expression - start.expression,
            pose.jaw - start.jaw,
            np.linalg.solve(view_units(photo), pose.view.difference(start.view)),
            pose.error_modes - start.error_modes,
        ]
    )
    prior = np.concatenate([deviations.expression, deviations.jaw, deviations.view, np.ones(len(pose.error_modes))])
    precision = 1 / np.maximum(prior, FIXED) ** 2
    normal, gradient = flat.T @ flat, flat.T @ robust_gap
    inner = np.arange(s, len(gradient))
    normal[inner, inner] += precision
    gradient[s:] -= precision * away
    cost = 2 * OUTLIER**2 * float(np.log1p(length / (2 * OUTLIER**2)).sum()) + float(precision @ away**2)
    return DenseSystem(cost, normal, gradient)


def view_units(photo: Observed) -> np.ndarray:
    """[6, 6]: a step in the upright face's axes, places in metres, to a step of `View`."""
    units = np.eye(UNKNOWNS)
    units[:2, :2] = photo.turn
    units[4:, 4:] = photo.turn * photo.start.view.scale
    return units


def _moved(
    pose: PhotoPose, step: np.ndarray, photo: Observed, expression_range: tuple[float, float] | None
) -> PhotoPose:
    e = len(pose.expression)
    expression, jaw, view, error_modes = np.split(step, [e, e + 3, e + 3 + UNKNOWNS])
    expression = pose.expression + expression
    if expression_range is not None:
        expression = np.clip(expression, *expression_range)
    return replace(
        pose,
        expression=expression,
        jaw=pose.jaw + jaw,
        view=pose.view.moved(view_units(photo) @ view),
        error_modes=pose.error_modes + error_modes,
    )
