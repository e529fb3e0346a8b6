"""Gauss–Newton solver for head-model parameters from target vertex positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from scipy.spatial.transform import Rotation

from tokenface.geometry.mesh_normals import mesh_normals, vertex_areas
from tokenface.geometry.similarity import Similarity, procrustes
from tokenface.head.arkit import JAW_OPEN_ANGLE, JAW_SIDE_ANGLE
from tokenface.head.data import HeadData
from tokenface.head.fitting import similarity_motion
from tokenface.head.model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.head.registration import Layers

LEAST_TRUST = 0.05
NOISE = 0.001
"""Metres, standard deviation of a correspondence."""
PERFORMANCE_NOISE = 0.0003
"""The same of a displacement: where both heads lie apart, they still move alike."""
INDEPENDENT = 300
"""Correspondences that count: neighbours err together."""
TANGENTIAL = 0.35
"""Weight of an error along the surface of a person's head over one across it; the registration slides there."""
SIZE_SPREAD = 0.05
"""Standard deviation of the logarithm of the global scale: size belongs to the shape where the shape can say it."""
EXPRESSION_SPREAD = 0.5
"""Standard deviation of a weight in [0, 1]; 1 where weights are unbounded (FLAME)."""
JAW_SPREAD = 0.3
"""Radians."""
IMPORTANCE = {"neck": 0.1, "scalp": 0.2, "ears": 0.3, "lips": 3.0, "eye_region": 2.0, "nose": 1.5}
"""Weight of a region's area; 1 elsewhere."""
PERSON_STEPS, PERFORMANCE_STEPS = 10, 5
FRAMES_AT_ONCE = 32
ANGLE_STEP = 0.01


@dataclass(frozen=True, eq=False)
class Posed:
    """shape [S], expression [E], jaw [3]; place: of this head in the space that the positions were given in."""

    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    place: Similarity


class ParameterSolver:
    """Prepared once per head model and trust in its vertices.

    Args:
        head: the model whose parameters are wanted.
        trust: [V] in [0, 1], how far each vertex's wanted position is to be believed.
    """

    def __init__(self, head: HeadModel, trust: np.ndarray):
        self.head, data = head, head.data
        layers = Layers.of(data)
        used = layers.skin.copy()
        if data.eye_drive is not None:  # eyeballs say where a head looks whose expressions turn them
            used |= layers.left_eye | layers.right_eye
        self.vertices = np.flatnonzero(used & (trust > LEAST_TRUST))
        weights = (trust * vertex_areas(data.template.astype(np.float64), data.faces) * _importance(data))[
            self.vertices
        ]
        self.weights = weights * (INDEPENDENT / weights.sum()) / NOISE**2
        self.jaw_turns = "jawOpen" not in head.expression_names
        self._part = head.restricted_to(torch.from_numpy(self.vertices))
        own = self.vertices
        self._shape_basis = _columns(data.shape_basis[:, own])
        self._expression_basis = data.expression_basis[:, own].astype(np.float64)
        self._skinning = data.skinning_weights[own].astype(np.float64)
        self._template = data.template[own].astype(np.float64)

    def person(self, wanted: np.ndarray, neutral: bool = True) -> Posed:
        """Identity and place of a head, and expression and jaw unless it is neutral.

        Args:
            wanted: [V, 3] where the vertices ought to be, in a space of any place and size.
        """
        points = np.asarray(wanted, np.float64)[self.vertices]
        normals = mesh_normals(np.asarray(wanted, np.float64), self.head.data.faces)[self.vertices]
        modes = self._shape_basis.shape[1]
        shape, expression, jaw = np.zeros(modes), np.zeros(self.head.sizes.expression), np.zeros(3)
        place = procrustes(self._template, points)
        size = place.scale
        for _ in range(PERSON_STEPS):
            target, outward = place.undo(points), normals @ place.rotation
            sides = _sides(outward, self.weights)
            posed, turned, by_jaw = self._posed(shape, expression[None], jaw[None])
            back = np.linalg.inv(turned[0])
            rest_error = np.einsum("kij,kj->ki", back, target - posed[0])
            motion = similarity_motion(target)
            # errors count in the space of the given points: otherwise shrinking these would look like an improvement
            motion[:, :, 6] = posed[0]
            columns = [self._shape_basis, -motion.reshape(-1, 7)]
            current = [shape, np.zeros(6), np.array([np.log(place.scale / size)])]
            spreads = [np.ones(modes), np.full(6, np.inf), np.array([SIZE_SPREAD])]
            if not neutral:
                columns += [_columns(self._expression_columns(shape)), _by_side(by_jaw[0], back)]
                current += [expression, jaw]
                spreads += [self._spread(), np.full(3, JAW_SPREAD if self.jaw_turns else 1e-6)]
            matrix = _by_side(np.concatenate(columns, axis=1).reshape(len(points), 3, -1), sides)
            error = np.einsum("kij,kj->ki", sides, rest_error).ravel()
            start, inverse = np.concatenate(current), 1 / np.square(np.concatenate(spreads))
            # the placement's size is the inverse of the points' growth
            pull = start * inverse
            pull[modes + 6] *= -1
            hessian, gradient = matrix.T @ matrix + np.diag(inverse + 1e-9), matrix.T @ error - pull
            if neutral or self.head.expression_range is None:
                step = np.linalg.solve(hessian, gradient)
            else:
                low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
                low[modes + 7 :], high[modes + 7 :] = self._bounds()
                step = bounded_minimum(hessian, gradient, low - start, high - start)
            shape = shape + step[:modes]
            place = _stepped(place, step[modes : modes + 7])
            if not neutral:
                expression, jaw = expression + step[modes + 7 : -3], jaw + step[-3:]
        return Posed(shape, expression, jaw, place)

    def performance(
        self, shape: np.ndarray, wanted: np.ndarray, jaw: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Expressions [N, E] and jaws [N, 3] of one person.

        Args:
            shape: [S].  wanted: [N, V, 3] vertex positions in this head's own space.  jaw: [N, 3] to start from.
        """
        basis = _columns(self._expression_columns(shape))
        roots = np.sqrt(np.repeat(self.weights, 3)) * (NOISE / PERFORMANCE_NOISE)
        weighted = basis * roots[:, None]
        fixed = weighted.T @ weighted
        found = [
            self._frames(shape, wanted[rows], None if jaw is None else jaw[rows], weighted, fixed, roots)
            for rows in _chunks(len(wanted))
        ]
        return np.concatenate([e for e, _ in found]), np.concatenate([j for _, j in found])

    def _frames(
        self,
        shape: np.ndarray,
        wanted: np.ndarray,
        jaw: np.ndarray | None,
        weighted: np.ndarray,
        fixed: np.ndarray,
        roots: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        target = np.asarray(wanted, np.float64)[:, self.vertices]
        count, actions = len(target), weighted.shape[1]
        expression = np.zeros((count, actions))
        jaw = np.array(jaw, np.float64) if jaw is not None and self.jaw_turns else np.zeros((count, 3))
        spread = np.concatenate([self._spread(), np.full(3, JAW_SPREAD if self.jaw_turns else 1e-6)])
        inverse = 1 / spread**2
        for _ in range(PERFORMANCE_STEPS):
            posed, turned, by_jaw = self._posed(shape, expression, jaw)
            back = np.linalg.inv(turned)
            errors = np.einsum("nkij,nkj->nki", back, target - posed).reshape(count, -1) * roots
            columns = np.einsum("nkij,nkjc->nkic", back, by_jaw).reshape(count, -1, 3) * roots[:, None]
            for row in range(count):
                cross = weighted.T @ columns[row]
                hessian = np.block([[fixed, cross], [cross.T, columns[row].T @ columns[row]]]) + np.diag(inverse)
                start = np.concatenate([expression[row], jaw[row]])
                gradient = np.concatenate([weighted.T @ errors[row], columns[row].T @ errors[row]]) - inverse * start
                if self.head.expression_range is None:
                    step = np.linalg.solve(hessian, gradient)
                else:
                    low, high = self._bounds()
                    step = bounded_minimum(hessian, gradient, low - start, high - start)
                expression[row] += step[:actions]
                jaw[row] += step[actions:]
        return expression, jaw

    @torch.no_grad()
    def _posed(
        self, shape: np.ndarray, expression: np.ndarray, jaw: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[N, K, 3] vertices, [N, K, 3, 3] how each is turned from rest, [N, K, 3, 3] derivative by the jaw."""
        count = len(jaw)
        # four poses a frame: as it is, and the jaw a little further about each axis
        jaws = np.concatenate([jaw, *(jaw + ANGLE_STEP * axis for axis in np.eye(3))])
        e = torch.from_numpy(np.tile(expression, (4, 1))).float()
        s = torch.from_numpy(np.asarray(shape)).float()[None].expand(len(e), -1)
        vertices = self._part(s, e, torch.from_numpy(jaws).float()).vertices.double().numpy()
        vertices = vertices.reshape(4, count, -1, 3)
        by_jaw = np.moveaxis((vertices[1:] - vertices[0]) / ANGLE_STEP, 0, -1)
        matrices = np.tile(np.eye(3), (count, 5, 1, 1))
        matrices[:, JAW] = Rotation.from_rotvec(jaw).as_matrix()
        drive = self.head.data.eye_drive
        if drive is not None:
            eyes = np.einsum("ne,eij->nij", expression, drive)
            for joint, turn in ((LEFT_EYE, eyes[:, 0]), (RIGHT_EYE, eyes[:, 1])):
                matrices[:, joint] = Rotation.from_rotvec(turn).as_matrix()
        return vertices[0], np.einsum("kj,njab->nkab", self._skinning, matrices), by_jaw

    def _expression_columns(self, shape: np.ndarray) -> np.ndarray:
        """[E, K, 3] motion per unit of expression at rest, the eyes' turning included."""
        data = self.head.data
        if data.eye_drive is None:
            return self._expression_basis
        rest = self._template + (self._shape_basis @ shape).reshape(-1, 3)
        joints = data.joint_template + np.tensordot(shape, data.joint_basis[: len(shape)], 1)
        columns = self._expression_basis.copy()
        for eye, joint in enumerate((LEFT_EYE, RIGHT_EYE)):
            turning = np.cross(data.eye_drive[:, None, eye].astype(np.float64), (rest - joints[joint])[None])
            columns += turning * self._skinning[None, :, joint, None]
        return columns

    def _spread(self) -> np.ndarray:
        spread = 1.0 if self.head.expression_range is None else EXPRESSION_SPREAD
        return np.full(self.head.sizes.expression, spread)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """[E + 3] lowest and highest weights and jaw angles."""
        assert self.head.expression_range is not None
        low, high = (np.full(self.head.sizes.expression, value) for value in self.head.expression_range)
        jaw = np.array([JAW_OPEN_ANGLE, JAW_SIDE_ANGLE, JAW_SIDE_ANGLE])
        return np.concatenate([low, -jaw * [0, 1, 1]]), np.concatenate([high, jaw])


@njit(cache=True)
def bounded_minimum(hessian, gradient, low, high):  # pragma: no cover - compiled
    """The x in [low, high] that minimises ½ xᵀ H x − gᵀ x, H positive definite, by coordinate descent."""
    size = len(gradient)
    x = np.minimum(np.maximum(np.zeros(size), low), high)
    for _ in range(2000):
        largest = 0.0
        for i in range(size):
            slope = gradient[i]
            for j in range(size):
                slope -= hessian[i, j] * x[j]
            value = min(max(x[i] + slope / hessian[i, i], low[i]), high[i])
            largest = max(largest, abs(value - x[i]))
            x[i] = value
        if largest < 1e-7:
            break
    return x


def _columns(basis: np.ndarray) -> np.ndarray:
    """[M, K, 3] → [3K, M] float64."""
    return np.ascontiguousarray(basis.reshape(len(basis), -1).T, dtype=np.float64)


def _by_side(columns: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """[K, 3, M] with [K, 3, 3] (or [1, 3, 3]) applied to each → [3K, M]."""
    return np.matmul(sides, columns).reshape(-1, columns.shape[2])


def _sides(normals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[K, 3, 3] that weigh an error: fully along the normal, less along the surface."""
    along = normals[:, :, None] * normals[:, None, :]
    return (TANGENTIAL * np.eye(3) + (1 - TANGENTIAL) * along) * np.sqrt(weights)[:, None, None]


def _importance(data: HeadData) -> np.ndarray:
    factor = np.ones(len(data.template))
    for region, value in IMPORTANCE.items():
        factor[data.regions.get(region, np.empty(0, int))] = value
    return factor


def _chunks(count: int) -> Iterator[slice]:
    for first in range(0, count, FRAMES_AT_ONCE):
        yield slice(first, first + FRAMES_AT_ONCE)


def _stepped(place: Similarity, step: np.ndarray) -> Similarity:
    """The place after the points in the converted head's space moved by step [7]: rotation, translation, log scale
    (`head.fitting.similarity_motion` is the derivative)."""
    turn, grow = Rotation.from_rotvec(step[:3]).as_matrix(), float(np.exp(step[6]))
    # new = grow · turn · old + step, old = (x − t) R / s: solved for x
    scale, rotation = place.scale / grow, place.rotation @ turn.T
    return Similarity(scale, rotation, place.translation - scale * rotation @ step[3:6])
