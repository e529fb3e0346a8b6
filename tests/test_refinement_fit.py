"""The least-squares core and the fit to points, against independent references and known heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from toy_head import toy_head_data

from tokenface.errors import ConfigError, HeadModelError
from tokenface.geometry.levenberg_marquardt import DenseSystem, SharedSystem, minimise
from tokenface.head.model import HeadModel
from tokenface.inference.refinement import RefineOptions
from tokenface.refinement.landmarks import Deviations, MeshPoints, Observed, PhotoPose, fit_points
from tokenface.refinement.statistics import Statistics, view_terms
from tokenface.refinement.view import View


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


def test_the_points_are_those_of_the_head_model_with_its_jaw_open(head):
    points, random = MeshPoints(head), np.random.default_rng(1)
    coefficients, jaw = random.normal(size=6 + 5), np.array([0.3, -0.1, 0.05])
    both = torch.from_numpy(coefficients).float()[None]
    # the toy's eyes move vertices, which the face mesh's points on real heads do not follow
    mesh = head(both[:, :6], both[:, 6:], torch.tensor(jaw).float()[None], eyes=torch.zeros(1, 2, 3))
    np.testing.assert_allclose(points(coefficients, jaw), head.landmarks468(mesh.vertices)[0], atol=1e-6)


def test_derivatives_of_the_points_are_those_of_finite_differences(head):
    points, random, step = MeshPoints(head), np.random.default_rng(2), 1e-6
    for jaw in (np.zeros(3), np.array([0.3, -0.1, 0.05])):
        coefficients = random.normal(size=11)
        by_coefficients, by_jaw = points.derivatives(coefficients, jaw)
        here = points(coefficients, jaw)
        for k in (0, 5, 7):
            moved = points(coefficients + step * np.eye(11)[k], jaw)
            np.testing.assert_allclose(by_coefficients[k], (moved - here) / step, atol=1e-8)
        for axis in range(3):
            moved = points(coefficients, jaw + step * np.eye(3)[axis])
            np.testing.assert_allclose(by_jaw[axis], (moved - here) / step, atol=1e-5)


def test_heads_without_the_face_mesh_are_refused_in_one_line():
    data = toy_head_data()
    data.mesh468_faces = data.mesh468_barycentrics = None
    with pytest.raises(HeadModelError, match="468 points"):
        MeshPoints(HeadModel(data))


def test_the_minimum_is_the_one_that_scipy_finds():
    """Rosenbrock's valley, from the usual start."""

    def residual(x):
        return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    def linearise(x):
        falls = -np.array([[-20 * x[0], 10], [-1, 0]])
        return DenseSystem.of(residual(x), falls)

    found = minimise(np.array([-1.2, 1.0]), linearise, lambda x, step: x + step, rounds=200, tolerance=1e-14)
    reference = least_squares(residual, [-1.2, 1.0], method="lm").x
    np.testing.assert_allclose(found.state, reference, atol=1e-5)


def test_eliminating_own_unknowns_gives_the_same_step_as_the_whole_system():
    random = np.random.default_rng(0)
    shared, own = 4, (3, 2)
    jacobians = [random.normal(size=(9, shared + n)) for n in own]
    residuals = [random.normal(size=9) for _ in own]
    prior = random.normal(size=(4, 4))
    common = DenseSystem.of(random.normal(size=4), prior)
    blocks = tuple(DenseSystem.of(r, j) for r, j in zip(residuals, jacobians, strict=True))
    for damping in (0.0, 0.3):
        step, parts = SharedSystem(blocks, common, shared).step(damping)
        whole = np.zeros((9, 9))
        gradient = np.zeros(9)
        whole[:4, :4], gradient[:4] = common.normal, common.gradient
        place = 4
        for block, n in zip(blocks, own, strict=True):
            index = [*range(4), *range(place, place + n)]
            whole[np.ix_(index, index)] += block.normal
            gradient[index] += block.gradient
            place += n
        direct = np.linalg.solve(whole + damping * np.diag(np.diag(whole)), gradient)
        np.testing.assert_allclose(np.concatenate([step, *parts]), direct, atol=1e-10)


def pose_of(seed: int, focal: float | None = None) -> PhotoPose:
    random = np.random.default_rng(seed)
    turn = Rotation.from_euler("ZYX", random.normal(size=3) * 15, degrees=True).as_matrix()
    view = View(turn, 6.0, np.array([0.05, -0.1]), np.array([0, 0, 0.06]), focal, np.array([0.4, 0.1]))
    expression = random.uniform(0.2, 0.8, size=5)
    expression[-1] = 0  # moves nothing on the toy
    return PhotoPose(expression, np.array([0.1, 0.0, 0.0]), view, np.zeros(0))


def observed(model: MeshPoints, shape: np.ndarray, pose: PhotoPose, noise: float = 0.0, seed: int = 0) -> Observed:
    """Points of a known head, and a start that is a good way off."""
    target = pose.view.project(model(np.concatenate([shape, pose.expression]), pose.jaw))
    target = target + noise * np.random.default_rng(seed).normal(size=target.shape)
    start = PhotoPose(
        np.full(5, 0.5) * (pose.expression != 0),
        np.array([0.05, 0.0, 0.0]),
        pose.view.moved(np.array([0.05, -0.1, 0.08, 0.1, 0.03, 0.04])),
        np.zeros(0),
    )
    return Observed(target, np.full(len(target), 1e-3), np.zeros((0, len(target), 2)), start, np.eye(2))


LOOSE = Deviations(np.full(6, 1.0), np.full(5, 0.5), np.full(3, 0.3), np.full(6, 1.0))


@pytest.mark.parametrize("focal", [None, 3.0])
def test_a_known_head_is_found_again_from_two_views(head, focal):
    model, shape = MeshPoints(head), np.array([1.0, -0.8, 0.5, 1.5, -1.2, 0.3])
    poses = [pose_of(3, focal), pose_of(4, focal)]
    photos = [observed(model, shape, pose, seed=i) for i, pose in enumerate(poses)]
    found = fit_points(model, np.zeros(6), photos, LOOSE, (0.0, 1.0), rounds=40)
    for pose, true in zip(found.poses, poses, strict=True):
        here = pose.view.project(model(np.concatenate([found.shape, pose.expression]), pose.jaw))
        there = true.view.project(model(np.concatenate([shape, true.expression]), true.jaw))
        assert np.abs(here - there).max() < 1e-3
    np.testing.assert_allclose(found.shape, shape, atol=0.15)


def test_points_far_off_hardly_move_the_answer(head):
    model, shape = MeshPoints(head), np.array([1.0, -0.8, 0.5, 1.5, -1.2, 0.3])
    photo = observed(model, shape, pose_of(3), noise=1e-3)
    target = photo.target.copy()
    target[::10] += 0.3  # a hand over a tenth of the face
    clean = fit_points(model, np.zeros(6), [photo], LOOSE, (0.0, 1.0)).shape
    dirty = fit_points(model, np.zeros(6), [replace(photo, target=target)], LOOSE, (0.0, 1.0)).shape
    assert np.abs(clean - dirty).max() < 0.3
    hidden = np.where(np.arange(len(target)) % 10 == 0, np.inf, photo.deviation)
    unseen = fit_points(model, np.zeros(6), [replace(photo, target=target, deviation=hidden)], LOOSE, (0.0, 1.0)).shape
    assert np.abs(clean - unseen).max() < 0.1


def test_what_may_not_move_stays(head):
    model, shape = MeshPoints(head), np.array([1.0, -0.8, 0.5, 1.5, -1.2, 0.3])
    photo = observed(model, shape, pose_of(3))
    held = replace(LOOSE, shape=np.zeros(6), expression=np.zeros(5))
    found = fit_points(model, np.zeros(6), [photo], held, (0.0, 1.0))
    np.testing.assert_array_equal(found.shape, 0)
    np.testing.assert_allclose(found.poses[0].expression, photo.start.expression, atol=1e-6)
    assert not np.allclose(found.poses[0].view.rotation, photo.start.view.rotation, atol=1e-3)


def test_the_shipped_statistics_are_those_of_a_face():
    known = Statistics.load()
    assert known.error_modes.shape[1:] == (468, 2)
    assert 1e-4 < known.deviation.mean() < 5e-3  # metres
    assert 0.3 < known.shape[0] < 1.5  # standard deviations: the network knows something, not all
    # symmetric people: the bias of a frontal face has no side on the midline (nose tip, chin)
    frontal = known.expected(0.0, 0.0)
    assert np.abs(frontal[[1, 4, 152], 0]).max() < 2e-4
    np.testing.assert_allclose(view_terms(0.3, -0.2)[4], np.sin(0.3) * np.sin(-0.2))


def test_damaged_statistics_are_an_error_of_one_line(tmp_path):
    path = tmp_path / "refinement.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(HeadModelError, match="measure them with"):
        Statistics.load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"components": ("nose",)},
        {"components": ()},
        {"size": "large"},
        {"ipd": 6.3},
        {"point_deviation": 0.0},
        {"views": 0},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        RefineOptions(**wrong)


def test_the_former_name_of_views_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="views"):
        options = RefineOptions(looks=3, points="looks")
    assert options == RefineOptions(views=3)
