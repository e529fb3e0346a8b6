"""Scan registration, any topology to the head model: landmarks, the model's modes, then a smooth residual.

The model fit (`head.fitting`) finds place, size, identity and expression; what no mode explains is taken up by
moving the face's vertices along their normals onto the scan, in rounds that reach less far and are less smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from tokenface.data.readers.dataset import ScanMesh
from tokenface.errors import DataError
from tokenface.geometry.closest import closest_on_mesh, on_triangles
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.similarity import procrustes
from tokenface.head.data import HeadData
from tokenface.head.fitting import Surface, fit_surface
from tokenface.head.model import HeadModel
from tokenface.head.registration import averaged

SHAPE_MODES = 150
EXPRESSION_SPREAD = 0.3
"""Standard deviation of an expression weight where the model has a range [0, 1]; 1 for models without (FLAME)."""
JAW_SPREAD = 0.15
"""Radians."""
SURFACE_POINTS = 6000
REACH = (0.010, 0.007, 0.005, 0.004, 0.003, 0.003)
SMOOTHING = (0.010, 0.008, 0.006, 0.005, 0.004, 0.003)
"""Metres per round: how far the scan may be, and over which width the steps are averaged."""
FACING = 0.6
"""Cosine between the normals of a vertex and of its place on the scan from which they belong together."""
FIT_LIMIT = 0.004
"""Metres: a median distance beyond this after the fit is no fit."""
NOISE = (0.010, 0.008, 0.006, 0.006, 0.005, 0.005)
"""Metres: thousands of points a few millimetres apart are not independent, and the remainder takes up the rest."""
NEAR_LANDMARKS = 0.3
"""Share of the landmarks' radius within which the scan is looked at: hair, ears and collars pull the face apart."""
UNLIKELY = 2.5
"""Root mean square of the identity coefficients (1 for people) from which a fit is rejected."""
COVERED_LEAST = 0.5
"""Share of the face's vertices that must find the scan: landmarks in a wrong order fit a patch of it, too."""
LANDMARK_LIMIT = 0.012
"""Metres, root mean square after the best similarity to the mean head: farther off, they are not these landmarks."""
NOT_SKIN = ("left_eyeball", "right_eyeball", "mouth_interior", "teeth", "left_socket", "right_socket")


@dataclass(frozen=True, eq=False)
class Registered:
    """vertices: [V, 3] of the head model on the scan, metres, head space.  residual: median distance, metres, of the
    face's vertices to the scan.  covered: share of the face's vertices that found the scan."""

    vertices: np.ndarray
    residual: float
    covered: float


class ScanRegistration:
    """Prepared once per head model."""

    def __init__(self, head: HeadModel):
        self.head = head
        data = head.data
        self.faces = data.faces.astype(np.int64)
        self.mean = data.template.astype(np.float64)
        self.face = data.regions.get("face", np.arange(len(data.template)))
        hidden = {int(v) for name in NOT_SKIN for v in data.regions.get(name, ())}
        self.face = np.array([v for v in self.face if int(v) not in hidden])
        self.skin = _triangles_of(data, self.face)
        self._neutral_basis = data.shape_basis[:SHAPE_MODES].astype(np.float64)
        self._expressive_basis = np.concatenate([self._neutral_basis, _expression_modes(head)])
        self.landmark_vertices = _landmark_vertices(head)

    def register(self, scan: ScanMesh) -> Registered:
        """Lay the head model on a scan.

        Raises:
            DataError: fewer than seven landmarks, or a scan that no head fits.
        """
        if len(scan.landmarks) < 7 or len(scan.landmarks) != len(scan.numbers):
            raise DataError(f"a scan needs at least 7 landmarks to be registered, got {len(scan.landmarks)}")
        if not (np.isfinite(scan.vertices).all() and np.isfinite(scan.landmarks).all()) or len(scan.faces) < 100:
            raise DataError("the scan has vertices that are not numbers, or no surface")
        self._check_landmarks(scan)
        points, normals = _sampled(scan)
        fit = fit_surface(
            self.mean,
            self._neutral_basis if scan.neutral else self._expressive_basis,
            self.faces,
            Surface(points, normals, scan.landmarks.astype(np.float64), self.landmark_vertices[scan.numbers]),
            noise=NOISE,
            skin=self.skin,
        )
        spread = float(np.sqrt((fit.coefficients[: len(self._neutral_basis)] ** 2).mean()))
        if not spread < UNLIKELY:
            raise DataError(
                f"the scan asks for a head {spread:.1f} times as unusual as people are; check its landmarks"
            )
        pose = procrustes(points, fit.points)
        target = pose.apply(scan.vertices.astype(np.float64))
        vertices, residual, covered = self._refined(fit.vertices, target, scan.faces.astype(np.int64))
        if not np.isfinite(vertices).all() or residual > FIT_LIMIT:
            raise DataError(f"no head fits the scan ({1000 * residual:.1f} mm off); are its landmarks right?")
        if covered < COVERED_LEAST:
            raise DataError(
                f"only {100 * covered:.0f} % of the face find the scan; are its landmarks and normals right?"
            )
        if scan.metres is not None:
            vertices = vertices * (scan.metres / pose.scale)  # the scan's own size, about the head's origin
        return Registered(vertices.astype(np.float32), residual, covered)

    def _check_landmarks(self, scan: ScanMesh) -> None:
        known = self.mean[self.landmark_vertices[scan.numbers]]
        moved = procrustes(scan.landmarks.astype(np.float64), known).apply(scan.landmarks)
        error = float(np.sqrt(((moved - known) ** 2).sum(1).mean()))
        if not error < LANDMARK_LIMIT:
            raise DataError(
                f"the scan's landmarks are {1000 * error:.0f} mm from those of a mean head; expected iBUG's order, the "
                "subject's right first, in right-handed axes"
            )

    def _refined(
        self, vertices: np.ndarray, target: np.ndarray, target_faces: np.ndarray
    ) -> tuple[np.ndarray, float, float]:
        target_normals = mesh_normals(target, target_faces)
        moved = vertices.copy()
        for reach, width in zip(REACH, SMOOTHING, strict=True):
            step, good = self._step(moved, target, target_faces, target_normals, reach)
            moved += averaged(moved[self.face[good]], step[good], moved, width)
        step, good = self._step(moved, target, target_faces, target_normals, REACH[0])
        residual = float(np.median(np.linalg.norm(step[good], axis=1))) if good.any() else np.inf
        return moved, residual, float(good.mean())

    def _step(
        self,
        vertices: np.ndarray,
        target: np.ndarray,
        target_faces: np.ndarray,
        target_normals: np.ndarray,
        reach: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """[K, 3] way of the face's vertices to the scan along its normal there, and [K] whether it counts."""
        own = vertices[self.face]
        triangle, weights = closest_on_mesh(own, target, target_faces)
        nearest = on_triangles(target, target_faces, triangle, weights)
        normal = on_triangles(target_normals, target_faces, triangle, weights)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        facing = (normal * mesh_normals(vertices, self.faces)[self.face]).sum(1)
        way = nearest - own
        along = (way * normal).sum(1)[:, None] * normal
        # at the scan's border the closest point lies aside, not along the normal
        sideways = np.linalg.norm(way - along, axis=1)
        good = (np.linalg.norm(way, axis=1) < reach) & (facing > FACING) & (sideways < 0.0015)
        return along, good


def _sampled(scan: ScanMesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the scan near the face and their normals, thinned evenly."""
    vertices = scan.vertices.astype(np.float64)
    normals = mesh_normals(vertices, scan.faces.astype(np.int64))
    centre = scan.landmarks.mean(0)
    radius = NEAR_LANDMARKS * np.linalg.norm(scan.landmarks - centre, axis=1).max()
    distance = cKDTree(scan.landmarks).query(vertices, distance_upper_bound=radius)[0]
    near = np.flatnonzero(np.isfinite(distance) & (np.abs(normals).sum(1) > 0))
    if len(near) > SURFACE_POINTS:
        near = np.sort(np.random.default_rng(0).permutation(near)[:SURFACE_POINTS])
    if len(near) < 100:
        raise DataError("the scan has hardly any surface near its landmarks; are they in its own units?")
    return vertices[near], normals[near]


def _triangles_of(data: HeadData, vertices: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(data.template), bool)
    inside[vertices] = True
    return np.flatnonzero(inside[data.faces].all(1))


def _expression_modes(head: HeadModel) -> np.ndarray:
    """[E + 3, V, 3] expression offsets and the jaw's motion to first order, as unit-variance modes."""
    spread = 1.0 if head.expression_range is None else EXPRESSION_SPREAD
    expressions = head.data.expression_basis.astype(np.float64) * spread
    step = 0.01
    with torch.no_grad():
        rest = head(jaw=torch.zeros(1, 3)).vertices
        turned = head(jaw=torch.eye(3) * step).vertices
    return np.concatenate([expressions, ((turned - rest) / step).double().numpy() * JAW_SPREAD])


def _landmark_vertices(head: HeadModel) -> np.ndarray:
    """[68] the vertex next to each point of the mean head seen from the front."""
    points = head.landmarks68(head.template[None])[0]
    return torch.cdist(points, head.template).argmin(1).numpy()
