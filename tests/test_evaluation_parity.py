"""Our measurement against a slow one written from the protocol alone: SciPy's optimiser, distances to all triangles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import svd
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from tokenface.evaluation.icp import Surface
from tokenface.evaluation.scan_to_mesh import NOW, NOW_METRICAL, measure, scan_face
from tokenface.geometry.landmarks import NOW7
from tokenface.head.data import HeadData
from tokenface.head.registry import head_path

POINTS = 70


def brute_force(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[P] distances to the nearest of triangles [F, 3, 3]: every pair, inside by plane, else by the three edges."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    twice_area = np.linalg.norm(normal, axis=1)
    normal = normal / twice_area[:, None]
    best = np.full(len(points), np.inf)
    inside = np.ones((len(points), len(triangles)), bool)
    for start, end in ((a, b), (b, c), (c, a)):
        along = end - start
        to_point = points[:, None] - start
        inside &= np.einsum("pfd,fd->pf", to_point, np.cross(normal, along)) >= 0
        share = np.clip(np.einsum("pfd,fd->pf", to_point, along) / (along**2).sum(1), 0, 1)
        gap = to_point - share[..., None] * along
        best = np.minimum(best, np.sqrt((gap**2).sum(-1)).min(1))
    height = np.abs(np.einsum("pd,fd->pf", points, normal) - (a * normal).sum(1))
    return np.minimum(best, np.where(inside, height, np.inf).min(1))


def reference(scan, scan_points, vertices, faces, landmarks, factor: float | None) -> np.ndarray:
    """NoW's steps; factor: millimetres per unit of a metrical prediction, None: free scale."""
    bridge, bottom = (scan_points[1] + scan_points[2]) / 2, scan_points[4]
    radius = 1.4 * (np.linalg.norm(scan_points[0] - scan_points[3]) + np.linalg.norm(bridge - bottom)) / 2
    scan = scan[np.linalg.norm(scan - (bottom + 0.3 * (bridge - bottom)), axis=1) <= radius]
    # Procrustes with scale: singular values of the covariance of the centred, unit-norm points
    x, y = scan_points - scan_points.mean(0), landmarks - landmarks.mean(0)
    nx, ny = np.linalg.norm(x), np.linalg.norm(y)
    u, s, vt = svd((x / nx).T @ (y / ny))
    rotation, scale = u @ vt, s.sum() * nx / ny
    shift = scan_points.mean(0) - scale * rotation @ landmarks.mean(0)
    start = (scale if factor is None else factor) * vertices @ rotation.T + shift

    def place(p: np.ndarray) -> np.ndarray:
        size = p[6] if factor is None else 1.0
        return size * Rotation.from_rotvec(p[:3]).apply(start) + p[3:6]

    def residual(p: np.ndarray) -> np.ndarray:
        distances = brute_force(scan, place(p)[faces])
        return np.r_[distances, 100 * (abs(p[6]) - p[6])] if factor is None else distances

    first = np.r_[np.zeros(6), 1.0] if factor is None else np.zeros(6)
    sizes = np.r_[np.full(3, 0.01), np.full(3, 1.0), 0.01][: len(first)]
    best = least_squares(residual, first, x_scale=sizes, ftol=1e-7, xtol=1e-7, max_nfev=15).x
    return brute_force(scan, place(best)[faces])


@pytest.fixture(scope="module")
def heads() -> tuple[HeadData, np.ndarray]:
    """OpenHead, and coarse triangles of its face: vertices of one 9 mm cell become one."""
    data = HeadData.load(head_path("openhead"))
    hidden = [data.regions[name] for name in ("eyeballs", "mouth_interior", "left_socket", "right_socket")]
    shown = np.ones(len(data.template), bool)
    shown[np.concatenate(hidden)] = False
    shown &= data.template[:, 2] > 0.04
    _, first, cell = np.unique(np.round(data.template / 0.009), axis=0, return_index=True, return_inverse=True)
    faces = first[cell.ravel()][data.faces[shown[data.faces].all(1)]]
    proper = (faces != np.roll(faces, 1, axis=1)).all(1)
    return data, np.unique(faces[proper], axis=0).astype(np.int64)


def person(data: HeadData, seed: int, spread: float) -> np.ndarray:
    weights = np.random.default_rng(seed).normal(scale=spread, size=len(data.shape_basis))
    weights[40:] = 0
    return data.template.astype(float) + np.tensordot(weights, data.shape_basis, 1)


def seven(data: HeadData, vertices: np.ndarray) -> np.ndarray:
    rows = [point - 17 for point in NOW7]
    corners = vertices[data.faces[data.static_landmark_faces[rows]]]
    return np.einsum("kcd,kc->kd", corners, data.static_landmark_barycentrics[rows])


@pytest.mark.parametrize("metrical", [False, True], ids=["non-metrical", "metrical"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_figures_agree_with_the_slow_reference(heads, metrical, seed):
    data, faces = heads
    truth, guess = person(data, seed, 1.0) * 1000, person(data, seed + 50, 0.5)
    truth_points, guess_points = seven(data, truth), seven(data, guess)
    used = np.unique(faces)
    scan = truth[np.random.default_rng(seed).permutation(used)[: 3 * POINTS]]
    guess = Rotation.from_rotvec([0.3, -0.5, 0.2]).apply(guess)
    guess_points = Rotation.from_rotvec([0.3, -0.5, 0.2]).apply(guess_points)
    ours = measure(
        scan_face(scan, truth_points), Surface(guess, faces), guess_points, NOW_METRICAL if metrical else NOW
    ).distances
    slow = reference(scan, truth_points, guess, faces, guess_points, 1000.0 if metrical else None)
    assert len(ours) == len(slow) > 30
    for figure in (np.median, np.mean, np.std):
        assert figure(ours) == pytest.approx(figure(slow), rel=0.01)
    assert np.sqrt((ours**2).mean()) <= np.sqrt((slow**2).mean()) * 1.0005
