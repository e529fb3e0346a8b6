"""The commands that run a network, with one that answers at once: files, tables, exit codes."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")
pytest.importorskip("av", reason="needs the extra 'video'")

from mask_face import write_now
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data
from video_stand_ins import following_model, scene, write_clip

import tokenface
from tokenface.cli import run
from tokenface.geometry.landmarks import NOW7
from tokenface.head.model import HeadModel

MARKED = photo_with_marks((50, 40, 40))
EMPTY = photo_with_marks()


@pytest.fixture
def model(monkeypatch):
    made = stand_in_model(HeadModel(toy_head_data()))
    monkeypatch.setattr(tokenface, "load", lambda name=None, device="auto": made)
    return made


def call(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def test_now_reconstructs_the_photos_and_falls_back_to_the_data_sets_box(model, tmp_path, capsys):
    rows = ["selfie/IMG_1.jpg", "selfie/IMG_2.jpg", "multiview_neutral/IMG_3.jpg", "multiview_neutral/IMG_4.jpg"]
    root = write_now(tmp_path / "NoW", {"S1": 1}, {"S1": rows}, side=21)
    release = root / "NoW_Dataset" / "final_release_version"
    for row, picture in zip(rows, (MARKED, EMPTY, EMPTY, None), strict=True):
        photo = release / "iphone_pictures" / "S1" / row
        photo.parent.mkdir(parents=True, exist_ok=True)
        if picture is not None:
            Image.fromarray(picture).save(photo, quality=100)
    boxed = release / "detected_face" / "S1" / "selfie"
    boxed.mkdir(parents=True)
    np.save(boxed / "IMG_2.npy", {"left": 40, "top": 30, "right": 100, "bottom": 90})
    code = call("evaluate", "now", root, "-o", tmp_path / "out", "--workers", 1, "--worst", 0)
    captured = capsys.readouterr()
    assert code == 1
    assert "50.0 %" in captured.out
    assert "IMG_3" in captured.err
    assert "IMG_4" in captured.err
    written = tmp_path / "out" / "predictions" / "S1" / "selfie"
    stems = ("IMG_1", "IMG_2")
    assert {path.name for path in written.iterdir()} == {
        f"{stem}{suffix}" for stem in stems for suffix in (".npy", ".ply", ".npy.made.json")
    }
    points = np.load(written / "IMG_1.npy")
    head = model.head
    import torch

    vertices = head(torch.linspace(-1, 1, head.sizes.shape)[None]).vertices
    np.testing.assert_allclose(points, head.landmarks68(vertices)[0].numpy()[list(NOW7)], atol=1e-6)
    batches = len(model.network.batches)
    call("evaluate", "now", root, "-o", tmp_path / "out", "--workers", 1, "--worst", 0)
    assert len(model.network.batches) == batches  # finished predictions are kept


def now_of_one_photo(tmp_path, count: int = 1):
    rows = [f"selfie/IMG_{n}.jpg" for n in range(count)]
    root = write_now(tmp_path / "NoW", {"S1": 1}, {"S1": rows}, side=21)
    for row in rows:
        photo = root / "NoW_Dataset" / "final_release_version" / "iphone_pictures" / "S1" / row
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(MARKED).save(photo, quality=100)
    return root


def another_model(monkeypatch, seed: int):
    made = stand_in_model(HeadModel(toy_head_data(seed)))
    made.origin = replace(made.origin, weights_hash=f"{seed}" * 16, head_hash=made.head.data.geometry_hash())
    monkeypatch.setattr(tokenface, "load", lambda name=None, device="auto": made)
    return made


def now(root, output) -> dict:
    assert call("evaluate", "now", root, "-o", output, "--workers", 1, "--worst", 1) == 0
    return json.loads((output / "summary.json").read_text())


def test_two_models_into_one_folder_are_two_results(monkeypatch, tmp_path):
    root, together = now_of_one_photo(tmp_path), tmp_path / "together"
    figures = []
    for seed in (1, 2):
        another_model(monkeypatch, seed)
        alone = now(root, tmp_path / f"alone{seed}")
        shared = now(root, together)
        assert shared["figures"] == alone["figures"]
        assert list(shared["weights"].values()) == [f"{seed}" * 16]
        figures.append(shared["figures"]["all"]["median"])
    assert figures[0] != figures[1]
    made = another_model(monkeypatch, 1)
    now(root, together)
    batches = len(made.network.batches)
    assert now(root, together)["figures"]["all"]["median"] == figures[0]
    assert len(made.network.batches) == batches


def test_a_photo_that_changed_or_now_fails_keeps_no_prediction(monkeypatch, tmp_path):
    root, output = now_of_one_photo(tmp_path), tmp_path / "out"
    another_model(monkeypatch, 1)
    now(root, output)
    photo = root / "NoW_Dataset" / "final_release_version" / "iphone_pictures" / "S1" / "selfie" / "IMG_0.jpg"
    Image.fromarray(EMPTY).save(photo, quality=100)
    assert call("evaluate", "now", root, "-o", output, "--workers", 1, "--worst", 0) == 1
    assert list((output / "predictions" / "S1" / "selfie").iterdir()) == []
    assert json.loads((output / "summary.json").read_text())["figures"]["all"]["images"] == 0
    assert not (output / "curve.csv").exists()  # of the evaluation before
    assert list((output / "worst").iterdir()) == []


def test_nersemble_packs_what_has_a_face_and_names_the_rest(model, tmp_path, capsys):
    folder = tmp_path / "data" / "017"
    folder.mkdir(parents=True)
    Image.fromarray(MARKED).save(folder / "FREE_786_222200038.png")
    Image.fromarray(EMPTY).save(folder / "FREE_787_222200038.png")
    assert call("evaluate", "nersemble", tmp_path / "data", "-o", tmp_path / "svfr.zip") == 1
    assert "FREE_787" in capsys.readouterr().err
    names = zipfile.ZipFile(tmp_path / "svfr.zip").namelist()
    assert len(names) == 4
    assert all(name.startswith("017/FREE_786_222200038/") for name in names)


def test_aflw2000_prints_ranges_and_angles(model, tmp_path, capsys):
    Image.fromarray(MARKED).save(tmp_path / "image00002.jpg", quality=100)
    points = np.random.default_rng(0).uniform(40, 100, size=(2, 68))
    content = {"pt3d_68": np.vstack([points, np.zeros(68)]), "Pose_Para": np.zeros((1, 7))}
    savemat(tmp_path / "image00002.mat", content)
    assert call("evaluate", "aflw2000", tmp_path, "-o", tmp_path / "out") == 0
    assert "0–30" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["counts"]["0–30"] == 1
    assert summary["nme"]["0–30"] > 0
    assert summary["nme"]["60–90"] is None
    assert summary["angles"]["yaw"] == pytest.approx(0, abs=1e-3)


def test_a_clip_is_judged_in_every_way(monkeypatch, tmp_path, capsys):
    made = following_model()
    monkeypatch.setattr(tokenface, "load", lambda name=None, device="auto": made)
    frames = [
        scene((30 + 15 * np.sin(i / 4), 25 + 8 * np.cos(i / 3), 24), size=(90, 120), ground=(100 + i % 20,) * 3)
        for i in range(16)
    ]
    clip = write_clip(tmp_path / "clip.mp4", frames)
    assert call("evaluate", "video", clip, "--against", "one-euro", "-o", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    ways = summary["ways"]
    assert list(ways) == ["per-frame", "one-euro"]
    assert ways["per-frame"]["lag"] == pytest.approx(0, abs=0.05)
    assert ways["one-euro"]["jitter px"] < ways["per-frame"]["jitter px"]
    assert ways["per-frame"]["found"] == 1
    assert ways["per-frame"]["photometric"] > 0
    assert len((tmp_path / "out" / "frames.csv").read_text().splitlines()) == 17
    assert (tmp_path / "out" / "curve.png").is_file()
    assert call("evaluate", "video", clip, "--against", "magic", "-o", tmp_path / "out") == 1
    assert "one-euro" in capsys.readouterr().err
    page = tmp_path / "report.html"
    assert call("report", tmp_path / "out", "-o", page) == 0
    assert "clip.mp4" in page.read_text()


@pytest.mark.parametrize(("kind", "columns"), [("comparison", 3), ("poses", 2), ("teaser", 4)])
def test_figures_have_a_row_per_photo_and_their_columns(model, tmp_path, kind, columns):
    from tokenface.evaluation.figures import CAPTION, GAP, TILE

    for name, picture in (("a.png", MARKED), ("b.png", EMPTY)):
        Image.fromarray(picture).save(tmp_path / name)
    assert call("evaluate", "figure", kind, tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "f.png") == 0
    sheet = np.asarray(Image.open(tmp_path / "f.png"))
    assert sheet.shape == (CAPTION + 2 * (TILE + GAP) + GAP, columns * (TILE + GAP) + GAP, 3)
    upper, lower = sheet[CAPTION : CAPTION + TILE], sheet[CAPTION + TILE + GAP :]
    assert (upper != 245).any()
    assert (lower == 245).all()  # the photo without a face stays empty


def test_other_methods_stand_in_the_figures_from_their_files(model, tmp_path):
    """Fig. 5: our own head, as another method's mesh in other units and another pose, is our column again."""
    from tokenface.evaluation.figures import CAPTION, GAP, TILE
    from tokenface.evaluation.predict import write_prediction

    for name in ("a.png", "b.png"):
        Image.fromarray(MARKED).save(tmp_path / name)
    face = model.reconstruct(MARKED)[0]
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    points = face.landmarks3d[list(NOW7)] @ turn.T * 1000 + 50
    write_prediction(tmp_path / "theirs" / "a", face.vertices @ turn.T * 1000 + 50, face.faces, points)
    command = ("evaluate", "figure", "comparison", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "f.png")
    assert call(*command, "--meshes", f"theirs={tmp_path / 'theirs'}") == 0
    sheet = np.asarray(Image.open(tmp_path / "f.png"))
    step = TILE + GAP
    assert sheet.shape[1] == 5 * step + GAP
    ours, theirs = (sheet[CAPTION : CAPTION + TILE, GAP + k * step : GAP + k * step + TILE].astype(int) for k in (2, 4))
    assert np.abs(ours - theirs).mean() < 3
    assert (sheet[CAPTION + step :, GAP + 3 * step :] == 245).all()  # b.png has no mesh of theirs
    assert call(*command, "--meshes", "nothing") == 1


def test_the_teaser_shows_an_expression_on_another_head(model, tmp_path):
    from tokenface.evaluation.figures import GAP, TILE

    for name in ("a.png", "b.png"):
        Image.fromarray(MARKED).save(tmp_path / name)
    assert call("evaluate", "figure", "teaser", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "f.png") == 0
    assert np.asarray(Image.open(tmp_path / "f.png")).shape[1] == 5 * (TILE + GAP) + GAP


def test_other_methods_errors_stand_in_the_curve(tmp_path):
    from tokenface.errors import EvaluationError
    from tokenface.evaluation.video_run import ClipReport, with_results

    ours = ClipReport("clip.mp4", {"per-frame": {"photometric": 1.0}}, {"per-frame": np.ones(4)})
    (tmp_path / "theirs.csv").write_text("frame,error\n0,2\n1,\n3,4\n")
    report = with_results(ours, {"theirs": tmp_path / "theirs.csv"})
    np.testing.assert_array_equal(report.curves["theirs"], [2, np.nan, np.nan, 4])
    assert report.rows["theirs"]["photometric"] == 3
    assert report.rows["theirs"]["found"] == 0.5
    for text, reason in (("frame,error\n9,1\n", "the clip has 4"), ("time,error\n", "'frame'"), ("", "no table")):
        (tmp_path / "theirs.csv").write_text(text)
        with pytest.raises(EvaluationError, match=reason):
            with_results(ours, {"theirs": tmp_path / "theirs.csv"})


def test_a_figure_without_a_face_is_refused(model, tmp_path, capsys):
    Image.fromarray(EMPTY).save(tmp_path / "b.png")
    assert call("evaluate", "figure", "teaser", tmp_path / "b.png", "-o", tmp_path / "f.png") == 1
    assert "face" in capsys.readouterr().err
    assert not (tmp_path / "f.png").exists()
