"""Levenberg–Marquardt on the face-mesh points: one shape, and an expression, jaw and view for every photo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tokenface.geometry.levenberg_marquardt import DenseSystem, SharedSystem, minimise
from tokenface.refinement.points import MeshPoints
from tokenface.refinement.view import UNKNOWNS, View

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
    """How far the start may be off, one standard deviation: shape [S], expression [E], jaw [3], view [6] (places in
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
