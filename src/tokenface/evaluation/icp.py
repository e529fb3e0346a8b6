"""Point-to-surface ICP with scale: the similarity that minimises squared distances from scan points to a mesh.

Gauss–Newton on the unsigned distances with their analytic Jacobian would be slow where nearest points slide and jump
(lids, lips, nostrils), so its matrix is only the initial one and learns the true curvature from the gradients (BFGS).
It learns on few points; all points then need few rounds. A start that ends in a poor fit is tried again from turned
and scaled starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tokenface.errors import EvaluationError
from tokenface.geometry.similarity import Similarity, procrustes

try:
    import igl
except ImportError as error:
    raise EvaluationError(
        "distances to meshes need libigl; install it with: pip install 'tokenface[evaluate]'"
    ) from error


@dataclass(frozen=True)
class Nearest:
    """distances: [P], the mesh's unit.  triangles: [P].  points: [P, 3] on the surface."""

    distances: np.ndarray
    triangles: np.ndarray
    points: np.ndarray


class Surface:
    """Exact nearest points by libigl's bounding-box tree, which is built once, in the mesh's own space."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        """Args: vertices: [V, 3], finite.  faces: [F, 3], F ≥ 1."""
        self.vertices = np.ascontiguousarray(vertices, dtype=np.float64)
        self.faces = np.ascontiguousarray(faces, dtype=np.int64)
        if not len(self.faces):
            raise ValueError("a surface needs at least one triangle")
        self._tree = igl.AABB()
        self._tree.init(self.vertices, self.faces)

    def nearest(self, points: np.ndarray) -> Nearest:
        """Args: points: [P, 3]. Neighbours in space that are neighbours in the array are found faster."""
        query = np.ascontiguousarray(points, dtype=np.float64)
        squared, triangles, closest = self._tree.squared_distance(self.vertices, self.faces, query)
        return Nearest(np.sqrt(np.maximum(squared, 0)), np.asarray(triangles).ravel(), closest)

    @cached_property
    def normals(self) -> np.ndarray:
        """[F, 3] unit normals; zero for triangles without area."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def spatial_order(points: np.ndarray, bits: int = 9) -> np.ndarray:
    """[P] permutation along a Morton curve: neighbours in the array are neighbours in space."""
    low = points.min(0)
    cell = ((points - low) * (((1 << bits) - 1) / max(float((points.max(0) - low).max()), 1e-300))).astype(np.uint32)
    key = np.zeros(len(points), dtype=np.uint32)
    for bit in range(bits):
        for axis in range(3):
            key |= ((cell[:, axis] >> np.uint32(bit)) & np.uint32(1)) << np.uint32(3 * bit + axis)
    return np.argsort(key, kind="stable")


STAGES = (400, 6000)
"""Scan points of the first stages; the last one takes all."""
TOLERANCE = 4e-5
"""A stage ends when a step moves no point by more than this share of the scan's radius."""
POOR_FIT = 0.045
"""Root mean square distance over the scan's radius from which a fit is tried again; faces that fit have about 0.02."""
LIMIT = 60
LONGEST = 0.3
"""Longest step, share of the radius."""
CLEARLY_BETTER = 0.85
SEARCH_POINTS = 150
SEARCH_ROUNDS = 8
SEARCH_KEEPS = 6
SEARCH_TURNS = (40.0, 75.0)
SEARCH_SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True)
class Refined:
    """pose: mesh to scan.  distances: [P], the scan's unit, in the order of the points given.

    rounds: full nearest-point queries of all points.  restarted: the given start led to a poorer fit and was left.
    """

    pose: Similarity
    distances: np.ndarray
    rounds: int
    restarted: bool


def refine(points: np.ndarray, surface: Surface, start: Similarity, *, free_scale: bool = True) -> Refined:
    """Minimise Σ distance² over rotation, translation and, if free, scale.

    Args:
        points: [P, 3] of the scan; faster in `spatial_order`.
        start: mesh to scan, as from `procrustes`; up to about 60° and a factor of 2 wrong.
    """
    problem = _Problem(surface, points, free_scale)
    order = np.arange(len(points)) if len(points) <= STAGES[0] else spatial_order(points)
    coarse = points[_spread(order, STAGES[0])]
    state, restarted = problem.descend(coarse, start), False
    if state.rms > POOR_FIT * problem.radius:
        other = _search(problem, points[_spread(order, SEARCH_POINTS)], coarse, start)
        restarted = other.rms < CLEARLY_BETTER * state.rms
        state = other if restarted else state
    for count in STAGES[1:]:
        if count < len(points):
            state = problem.descend(points[_spread(order, count)], state.pose, state.curvature)
    last = problem.descend(points, state.pose, state.curvature)
    return Refined(last.pose, last.distances, last.rounds, restarted)


def _spread(order: np.ndarray, count: int) -> np.ndarray:
    """At most `count` indices, evenly along the order, back in rising order."""
    return np.sort(order[:: -(-len(order) // count)])


@dataclass(frozen=True)
class _State:
    """A pose, the distances there, and the downhill gradient [6 or 7] of half the sum of their squares."""

    pose: Similarity
    distances: np.ndarray
    jacobian: np.ndarray  # [P, 6 or 7]: by how much each distance falls per unit of turn, shift, growth
    gradient: np.ndarray
    curvature: np.ndarray  # of half the mean square: what the descent has learned so far
    rounds: int = 0

    @property
    def cost(self) -> float:
        return float(self.distances @ self.distances)

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.cost / len(self.distances)))


class _Problem:
    """Turns are about the scan's centre and lengths in units of its radius, so that all unknowns are alike."""

    def __init__(self, surface: Surface, points: np.ndarray, free_scale: bool):
        self.surface, self.free_scale = surface, free_scale
        self.centre = points.mean(0)
        self.radius = float(np.linalg.norm(points - self.centre, axis=1).max())

    def state(self, points: np.ndarray, pose: Similarity, curvature: np.ndarray | None, rounds: int = 0) -> _State:
        hit = self.surface.nearest(pose.undo(points))
        touched = pose.apply(hit.points)
        gap = points - touched
        distances = np.linalg.norm(gap, axis=1)
        touching = distances < 1e-9 * self.radius
        normals = gap / np.where(touching, 1, distances)[:, None]
        if touching.any():  # the direction of a gap of nothing is that of the surface
            normals[touching] = self.surface.normals[hit.triangles[touching]] @ pose.rotation.T
        jacobian = self._jacobian((touched - self.centre) / self.radius, normals)
        if curvature is None:
            curvature = jacobian.T @ jacobian / len(points)
        return _State(pose, distances, jacobian, jacobian.T @ distances, curvature, rounds)

    def _jacobian(self, arm: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """How far a point at `arm` goes along its normal per unit of turn, shift and growth."""
        a, n = arm.T, normals.T
        turn = (a[1] * n[2] - a[2] * n[1], a[2] * n[0] - a[0] * n[2], a[0] * n[1] - a[1] * n[0])
        columns = [*turn, *n, a[0] * n[0] + a[1] * n[1] + a[2] * n[2]]
        return np.stack(columns if self.free_scale else columns[:6], axis=1)

    def descend(self, points: np.ndarray, start: Similarity, curvature: np.ndarray | None = None) -> _State:
        """Damped quasi-Newton steps until they are small."""
        state, damping = self.state(points, start, curvature), 1e-6
        for count in range(1, LIMIT + 1):
            matrix = state.curvature + np.diag(damping * np.diag(state.curvature) + 1e-12)
            step = np.linalg.solve(matrix, state.gradient / len(points))
            step *= min(1.0, LONGEST * self.radius / max(float(np.abs(step).max()), 1e-300))
            trial = self.state(points, self._moved(state.pose, step), state.curvature, count)
            learned = _learned(state.curvature, step, (state.gradient - trial.gradient) / len(points))
            if trial.cost <= state.cost:
                state, damping = replace(trial, curvature=learned), max(damping / 10, 1e-6)
            else:
                state, damping = replace(state, curvature=learned, rounds=count), max(damping * 10, 1e-2)
            if np.abs(step).max() < TOLERANCE * self.radius or damping > 1e9:
                break
        return state

    def _moved(self, pose: Similarity, step: np.ndarray) -> Similarity:
        growth = float(np.exp(np.clip(step[6] / self.radius, -0.7, 0.7))) if self.free_scale else 1.0
        return pose.moved(self.centre, step[:3] / self.radius, step[3:6], growth)


def _learned(curvature: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """BFGS update, damped so that the matrix stays positive (Powell 1978). change: fall of the downhill gradient."""
    expected = curvature @ step
    own = float(step @ expected)
    if own <= 0:
        return curvature
    if step @ change < 0.2 * own:
        share = 0.8 * own / (own - float(step @ change))
        change = share * change + (1 - share) * expected
    return curvature - np.outer(expected, expected) / own + np.outer(change, change) / float(step @ change)


def _search(problem: _Problem, few: np.ndarray, coarse: np.ndarray, start: Similarity) -> _State:
    """The best of many turned and scaled starts: some rounds of closest points each, then a descent for the best."""
    scales = SEARCH_SCALES if problem.free_scale else (1.0,)
    found = []
    for turn in _turns():
        for scale in scales:
            pose = start.moved(problem.centre, turn, np.zeros(3), scale)
            for _ in range(SEARCH_ROUNDS):
                nearest = problem.surface.nearest(pose.undo(few)).points
                pose = procrustes(nearest, few, scale=pose.scale)
            cost = float((np.linalg.norm(pose.apply(nearest) - few, axis=1) ** 2).sum())
            found.append((cost, pose))
    found.sort(key=lambda pair: pair[0])
    return min((problem.descend(coarse, pose) for _, pose in found[:SEARCH_KEEPS]), key=lambda state: state.cost)


def _turns() -> list[np.ndarray]:
    """No turn, and turns about the twelve corners of an icosahedron, as axis-angle."""
    golden = (1 + 5**0.5) / 2
    corners = [np.roll([0, a, b * golden], k) for k in range(3) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    axes = [corner / np.linalg.norm(corner) for corner in corners]
    return [np.zeros(3)] + [np.radians(angle) * axis for angle in SEARCH_TURNS for axis in axes]
