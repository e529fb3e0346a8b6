"""Predictions as they come: whatever one file holds, it costs at most its own image, and says why in one line."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from bad_meshes import BINARY, POINTS, Prediction, ply, predictions
from mask_face import mask_face, npy_bytes, obj_text, picked_points

from tokenface.errors import EvaluationError
from tokenface.evaluation.batch import Job, Outcome, measure_all
from tokenface.evaluation.mesh_files import read_indexed_points, read_mesh, read_picked_points
from tokenface.evaluation.scan_to_mesh import NOW, NOW_METRICAL

FILES = predictions()
NUMBER_WANTED = 60


def job(folder, scan, prediction: Prediction) -> Job:
    place = folder / prediction.name
    place.mkdir()
    paths = []
    for part in (prediction.mesh, prediction.landmarks):
        path = None if part is None else place / part[0]
        if path is not None:
            path.write_bytes(part[1])
        paths.append(path)
    return Job(prediction.name, "someone", "", *scan, *paths)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    vertices, faces, points = mask_face(25, seed=1)
    (folder / "scan.obj").write_text(obj_text(vertices, faces))
    (folder / "scan.pp").write_text(picked_points(points))
    return folder / "scan.obj", folder / "scan.pp"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, scan) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("predictions")
    jobs = [job(folder, scan, prediction) for prediction in FILES]
    return {outcome.job.name: outcome for outcome in measure_all(jobs, NOW)}


def test_there_are_enough_files():
    assert len({prediction.name for prediction in FILES}) == len(FILES) >= NUMBER_WANTED


def test_every_file_has_an_outcome(outcomes):
    assert set(outcomes) == {prediction.name for prediction in FILES}


@pytest.mark.parametrize("prediction", [p for p in FILES if p.message is None], ids=lambda p: p.name)
def test_usable_files_are_measured(outcomes, prediction):
    outcome = outcomes[prediction.name]
    assert outcome.error is None
    assert np.isfinite(outcome.values).all()
    assert 0.05 < outcome.values.mean() < 25


@pytest.mark.parametrize("prediction", [p for p in FILES if p.message is not None], ids=lambda p: p.name)
def test_unusable_files_are_named_in_one_line(outcomes, prediction):
    error = outcomes[prediction.name].error
    assert error is not None
    assert "\n" not in error
    assert prediction.name in error
    assert prediction.message in error


@pytest.mark.parametrize(
    "same", ["windows_lines", "vertex_colours", "textured", "seams", "quads", "ply_double", "repeated_faces", "flipped"]
)
def test_the_same_shape_written_differently_has_the_same_error(outcomes, same):
    assert outcomes[same].values.mean() == pytest.approx(outcomes["plain"].values.mean(), rel=1e-4)


def test_a_metrical_prediction_in_another_unit_is_refused_with_the_right_one(tmp_path, scan):
    vertices, faces, points = mask_face(17)
    prediction = Prediction("mm", ("p.ply", ply(vertices, faces)), ("p.npy", npy_bytes(points)), "")
    task = job(tmp_path, scan, prediction)
    (wrong,) = measure_all([task], NOW_METRICAL, "m")
    (right,) = measure_all([task], NOW_METRICAL, "mm")
    assert wrong.error is not None
    assert "--unit mm" in wrong.error
    assert right.error is None


def test_a_damaged_scan_costs_its_own_images_alone(tmp_path, scan):
    (tmp_path / "scan.obj").write_text("v 1 2 3\n")
    (tmp_path / "scan.pp").write_text(picked_points(POINTS))
    good = job(tmp_path, scan, Prediction("good", ("p.ply", BINARY), ("p.npy", npy_bytes(POINTS)), None))
    bad = Job("bad", "other", "", tmp_path / "scan.obj", tmp_path / "scan.pp", good.mesh, good.landmarks)
    first, second = measure_all([bad, good], NOW)
    assert first.error is not None
    assert second.error is None


def test_scan_landmarks_that_cannot_be_used_are_refused(tmp_path):
    for name, text in (("few.pp", picked_points(POINTS[:5])), ("words.pp", '<point x="a" y="b" z="c"/>' * 7)):
        (tmp_path / name).write_text(text)
        with pytest.raises(EvaluationError, match="picked point"):
            read_picked_points(tmp_path / name)
    (tmp_path / "few.lnd").write_text("1 2 3 4\n")
    with pytest.raises(EvaluationError, match="7 landmarks"):
        read_indexed_points(tmp_path / "few.lnd")


def test_picked_points_keep_their_order_and_numbers(tmp_path):
    (tmp_path / "a.pp").write_text(picked_points(POINTS))
    np.testing.assert_allclose(read_picked_points(tmp_path / "a.pp"), POINTS)
    (tmp_path / "a.lnd").write_text("\n".join(f"{k} {x} {y} {z}" for k, (x, y, z) in enumerate(POINTS)))
    np.testing.assert_allclose(read_indexed_points(tmp_path / "a.lnd"), POINTS)


@pytest.mark.slow
def test_a_million_vertices_are_measured(tmp_path, scan):
    vertices, faces, points = mask_face(1000)
    block = np.zeros(len(faces), dtype=[("n", "u1"), ("f", "<i4", 3)])
    block["n"], block["f"] = 3, faces
    head = BINARY[: BINARY.index(b"end_header\n") + 11].decode()
    head = head.replace("vertex 289", f"vertex {len(vertices)}").replace("face 512", f"face {len(faces)}")
    data = head.encode() + vertices.astype("<f4").tobytes() + block.tobytes()
    (outcome,) = measure_all(
        [job(tmp_path, scan, Prediction("big", ("p.ply", data), ("p.npy", npy_bytes(points)), None))], NOW
    )
    assert outcome.error is None
    assert len(read_mesh(tmp_path / "big" / "p.ply").vertices) == 1_000_000
