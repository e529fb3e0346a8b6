"""NoW on disk: its layout, its result files, its tables, and going on after a stop."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from mask_face import mask_face, write_now, write_prediction

from tokenface.cli import run
from tokenface.errors import EvaluationError
from tokenface.evaluation import batch
from tokenface.evaluation.batch import measure_all
from tokenface.evaluation.mesh_files import read_mesh
from tokenface.evaluation.now import NowFolder, now_jobs
from tokenface.evaluation.scan_to_mesh import NOW, REGIONS, face_regions
from tokenface.evaluation.statistics import cumulative_curve, figures, people_interval

IMAGES = {
    "FaMoS_001": ["multiview_neutral/IMG_0001.jpg", "multiview_occlusions/IMG_0002.jpg", "selfie/IMG_0003.jpg"],
    "FaMoS_002": ["multiview_neutral/IMG_0004.jpg", "selfie/IMG_0005.jpg"],
}
ROWS = [f"{person}/{row}" for person, rows in IMAGES.items() for row in rows]


@pytest.fixture
def dataset(tmp_path):
    return write_now(tmp_path / "NoW", {"FaMoS_001": 1, "FaMoS_002": 2}, IMAGES)


@pytest.fixture
def predictions(tmp_path):
    for number, row in enumerate(ROWS):
        vertices, faces, points = mask_face(21, seed=3 + number)
        write_prediction(tmp_path / "preds", row, vertices / 1000, faces, points / 1000)
    return tmp_path / "preds"


def evaluate(dataset, predictions, output, *more) -> int:
    arguments = ["evaluate", "now", dataset, "--predictions", predictions, "-o", output, "--workers", 1, *more]
    return run([str(argument) for argument in arguments])


def test_one_command_leaves_the_table_the_curves_and_the_official_file(dataset, predictions, tmp_path, capsys):
    assert evaluate(dataset, predictions, tmp_path / "out", "--worst", 2) == 0
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    official = np.load(tmp_path / "out" / "results" / "preds_computed_distances.npy", allow_pickle=True).item()
    stacked = np.hstack(official["computed_distances"])
    assert official["num_missing_files"] == 0
    assert sorted(official["input_files"]) == sorted(ROWS)
    whole = summary["figures"]["all"]
    assert whole["median"] == pytest.approx(np.median(stacked), abs=1e-4)
    assert whole["std"] == pytest.approx(np.std(stacked), abs=1e-4)
    assert f"{whole['mean']:.3f}" in printed
    assert set(summary["figures"]) == {"all", "multiview_neutral", "multiview_occlusions", "selfie"}
    assert set(summary["regions"]) == set(REGIONS)
    assert (tmp_path / "out" / "curve.png").stat().st_size > 3000
    worst = sorted((tmp_path / "out" / "worst").glob("*.ply"))
    assert len(worst) == 2
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    means = {row["image"]: float(row["mean"]) for row in rows}
    assert max(means, key=means.get).replace("/", "_") in worst[0].name
    coloured = read_mesh(worst[0])
    assert len(coloured.vertices) == int(rows[0]["points"]) or len(coloured.vertices) > 100


def test_missing_predictions_are_counted_named_and_cost_the_exit_code(dataset, predictions, tmp_path, capsys):
    (predictions / ROWS[0]).with_suffix(".obj").unlink()
    (predictions / ROWS[1]).with_suffix(".npy").unlink()
    assert evaluate(dataset, predictions, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert ROWS[0] in captured.err
    assert ROWS[1] in captured.err
    assert "60.0 %" in captured.out
    official = np.load(tmp_path / "out" / "results" / "preds_computed_distances.npy", allow_pickle=True).item()
    assert official["num_missing_files"] == 2
    assert len(official["computed_distances"]) == 3


def test_one_challenge_alone_has_its_own_result_file(dataset, predictions, tmp_path):
    assert evaluate(dataset, predictions, tmp_path / "out", "--challenge", "selfie", "--metrical") == 0
    name = "preds_metrical_computed_distances_selfie.npy"
    official = np.load(tmp_path / "out" / "results" / name, allow_pickle=True).item()
    assert sorted(official["input_files"]) == [row for row in ROWS if "selfie" in row]


def test_finished_images_are_not_measured_again(dataset, predictions, tmp_path, monkeypatch):
    folder = NowFolder(dataset)
    jobs = now_jobs(folder, folder.images(), predictions)
    first = list(measure_all(jobs, NOW, cache=tmp_path / "cache"))
    counted = []
    compute = batch._compute
    monkeypatch.setattr(batch, "_compute", lambda job, *rest: counted.append(job.name) or compute(job, *rest))
    again = list(measure_all(jobs, NOW, cache=tmp_path / "cache"))
    assert counted == []
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    vertices, faces, points = mask_face(21, seed=50)
    write_prediction(predictions, ROWS[2], vertices, faces, points)
    list(measure_all(jobs, NOW, cache=tmp_path / "cache"))
    assert counted == [ROWS[2]]
    for stored in (tmp_path / "cache").glob("*.npz"):
        stored.write_bytes(b"damaged")
    list(measure_all(jobs, NOW, cache=tmp_path / "cache"))
    assert len(counted) == 1 + len(ROWS)


@pytest.mark.slow
def test_many_processes_give_the_same_numbers(dataset, predictions):
    folder = NowFolder(dataset)
    jobs = now_jobs(folder, folder.images(), predictions)
    alone, together = list(measure_all(jobs, NOW)), list(measure_all(jobs, NOW, workers=2))
    for a, b in zip(alone, together, strict=True):
        assert a.job == b.job
        np.testing.assert_array_equal(a.values, b.values)


def test_the_scans_own_shape_has_no_error(dataset, tmp_path):
    for row in ROWS:
        vertices, faces, points = mask_face(33, seed=int(row.split("/")[0][-1]))
        write_prediction(tmp_path / "self", row, vertices * 0.01 + 7, faces, points * 0.01 + 7)
    assert evaluate(dataset, tmp_path / "self", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["figures"]["all"]["mean"] < 1e-4


def test_the_test_split_is_packed_in_the_official_layout(dataset, predictions, tmp_path):
    (dataset / "imagepathstest.txt").write_text("\n".join([*ROWS[:3], "FaMoS_009/selfie/IMG_0009.jpg"]))
    assert evaluate(dataset, predictions, tmp_path / "out", "--split", "test") == 1
    names = zipfile.ZipFile(tmp_path / "out" / "preds_test.zip").namelist()
    assert sorted(names) == sorted(row.replace(".jpg", suffix) for row in ROWS[:3] for suffix in (".obj", ".npy"))


def test_a_missing_list_or_an_unknown_challenge_is_said(tmp_path, dataset, predictions, capsys):
    (tmp_path / "empty").mkdir()
    assert evaluate(tmp_path / "empty", predictions, tmp_path / "out") == 1
    assert "imagepathsvalidation.txt" in capsys.readouterr().err
    assert evaluate(dataset, predictions, tmp_path / "out", "--challenge", "profile") == 1
    assert "multiview_neutral" in capsys.readouterr().err
    assert evaluate(dataset, predictions, tmp_path / "out", "--metrical", "--unit", "inch") == 1
    assert "mm, cm, m" in capsys.readouterr().err


def test_rows_may_not_leave_the_folder(dataset):
    (dataset / "imagepathsvalidation.txt").write_text("../../etc/passwd\n")
    with pytest.raises(EvaluationError, match="not subject/challenge/image"):
        NowFolder(dataset).images()


def test_the_data_sets_box_is_read_without_running_its_pickle(dataset):
    image = NowFolder(dataset).images()[0]
    place = dataset / "NoW_Dataset" / "final_release_version" / "detected_face" / image.subject / image.challenge
    place.mkdir(parents=True)
    np.save(place / f"{image.stem}.npy", {"left": 10, "right": 30.5, "top": 5, "bottom": np.float64(45)})
    np.testing.assert_array_equal(NowFolder(dataset).box(image), [10, 5, 30.5, 45])


def test_regions_lie_where_a_face_has_them():
    vertices, _, points = mask_face(61)
    turned = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    names = np.array(REGIONS)[face_regions(vertices @ turned.T * 0.01 + 3, points @ turned.T * 0.01 + 3)]

    def at(x: float, y: float) -> str:
        return str(names[np.argmin((vertices[:, 0] - x) ** 2 + (vertices[:, 1] - y) ** 2)])

    places = {(0, 0): "nose", (0, -36): "mouth", (-30, 34): "eyes", (30, 34): "eyes", (0, 80): "forehead"}
    places |= {(0, -72): "chin", (45, -5): "cheeks", (-45, -5): "cheeks"}
    assert {place: at(*place) for place in places} == places


def test_figures_stack_distances_and_also_count_images_alike():
    short, long = np.array([4.0, 4.0]), np.array([1.0] * 6)
    row = figures([short, long], ["a", "b"], missing=2)
    assert (row.median, row.mean, row.image_mean, row.coverage) == (1.0, 14 / 8, 2.5, 0.5)
    assert row.std == pytest.approx(np.std(np.r_[short, long]))
    assert row.low <= row.image_mean <= row.high
    assert np.isnan(figures([], []).mean)


def test_intervals_draw_people_and_not_images():
    values = np.repeat(np.random.default_rng(0).normal(size=20), 50)
    people = np.repeat(np.arange(20), 50).astype(str)
    low, high = people_interval(values, list(people))
    assert 0.5 < high - low < 1.5  # a thousand independent images would give about 0.12
    assert np.isnan(people_interval(values[:50], ["a"] * 50)[0])


def test_the_cumulative_curve_counts_distances():
    edges, share = cumulative_curve([np.array([0.5, 1.0]), np.array([3.0, 100.0])], steps=8)
    assert edges.tolist() == list(range(9))
    assert share.tolist() == [0, 50, 50, 75, 75, 75, 75, 75, 75]
