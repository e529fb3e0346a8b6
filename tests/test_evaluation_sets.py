"""Stirling, AFLW2000-3D and NeRSemble: layouts as they lie on disk, and figures against closed forms."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from mask_face import mask_face, npy_bytes, obj_text
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from tokenface.cli import run
from tokenface.errors import EvaluationError
from tokenface.evaluation.aflw2000 import AflwRow, aflw_angles, aflw_figures, compare, read_aflw2000
from tokenface.evaluation.mesh_files import read_mesh
from tokenface.evaluation.nersemble import SvfrZip, svfr_images
from tokenface.evaluation.stirling import StirlingFolder


@pytest.fixture
def stirling(tmp_path):
    root = tmp_path / "ESRC"
    for person, seed in (("F1001", 1), ("m1005", 2)):
        vertices, faces, points = mask_face(33, seed)
        place = root / f"{person[0].upper()}_3D_N"
        place.mkdir(parents=True)
        (place / f"{person}_N.obj").write_text(obj_text(vertices, faces))
        rows = "".join(f"{k + 1} {x} {y} {z}\n" for k, (x, y, z) in enumerate(points))
        (place / f"{person}_N.lnd").write_text(rows)
    for split in ("HQ", "LQ"):
        photos = root / "Real_images__Subset_2D_FG2018" / split
        photos.mkdir(parents=True)
        for name in ("F1001_60L.jpg", "M1005_0.jpg"):
            (photos / name).write_bytes(b"")
            vertices, faces, points = mask_face(21, seed=9)
            stem = tmp_path / "preds" / split / name[:-4]
            stem.parent.mkdir(parents=True, exist_ok=True)
            stem.with_suffix(".obj").write_text(obj_text(vertices, faces))
            stem.with_suffix(".npy").write_bytes(npy_bytes(points))
    return root


def test_stirling_is_measured_by_both_rules(stirling, tmp_path, capsys):
    arguments = ["evaluate", "stirling", stirling, "--predictions", tmp_path / "preds", "-o", tmp_path / "out"]
    assert run([str(a) for a in [*arguments, "--workers", 1, "--worst", 0]]) == 0
    printed = capsys.readouterr().out
    assert "FG2018" in printed
    assert "NoW's rule on Stirling" in printed
    files = sorted((tmp_path / "out" / "fg2018" / "distances").rglob("*_distances.txt"))
    assert len(files) == 4
    rows = np.loadtxt(files[0])
    assert rows.shape[1] == 2
    scan = read_mesh(stirling / "F_3D_N" / "F1001_N.obj")
    points = mask_face(33, 1)[2]
    centre = points[4] + 0.3 * ((points[1] + points[2]) / 2 - points[4])
    size = np.linalg.norm(points[0] - points[3]) + np.linalg.norm((points[1] + points[2]) / 2 - points[4])
    inside = np.flatnonzero(np.linalg.norm(scan.vertices - centre, axis=1) <= 1.2 * size / 2)
    np.testing.assert_array_equal(rows[:, 0], inside)


def test_a_photo_finds_its_persons_first_scan(stirling):
    (stirling / "F_3D_N" / "F1001_2_N.obj").write_text("")
    (stirling / "F_3D_N" / "F1001_2_N.lnd").write_text("")
    folder = StirlingFolder(stirling)
    assert folder.scan_of(folder.photos("HQ")[0])[0].name == "F1001_N.obj"
    assert folder.scan_of(folder.photos("LQ")[1])[0].name == "m1005_N.obj"
    with pytest.raises(EvaluationError, match="no scan with landmarks"):
        folder.scan_of(stirling / "F1009_front.jpg")
    with pytest.raises(EvaluationError, match="HQ, LQ"):
        folder.photos("MQ")


def aflw_matrix(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """The data set's rotation: clockwise turns about x, y, z."""
    return np.linalg.multi_dot([Rotation.from_euler(axis, -a, degrees=True).as_matrix() for axis, a in
                                (("x", pitch), ("y", yaw), ("z", roll))])  # fmt: skip


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 0, 0), (0, 40, 0), (0, 0, -20), (12, -70, 25), (-30, 85, 5)])
def test_angles_come_back_from_the_data_sets_rotation(angles):
    np.testing.assert_allclose(aflw_angles(aflw_matrix(*angles)), angles, atol=1e-9)


def test_yaw_is_positive_to_the_left_and_pitch_up():
    assert (aflw_matrix(0, 30, 0) @ [0, 0, 1])[0] < 0
    assert (aflw_matrix(30, 0, 0) @ [0, 0, 1])[1] > 0


def test_aflw_rows_equal_their_closed_form(tmp_path):
    points = np.random.default_rng(0).uniform(50, 250, size=(68, 2))
    (tmp_path / "image00002.jpg").write_bytes(b"")
    pose = np.radians([[5.0, -40.0, 10.0, 0, 0, 0, 0]])
    savemat(tmp_path / "image00002.mat", {"pt3d_68": np.vstack([points.T, np.zeros(68)]), "Pose_Para": pose})
    (truth,) = read_aflw2000(tmp_path)
    row = compare(truth, points - 0.5 + np.array([3.0, 4.0]), aflw_matrix(7, -43, 10))
    size = np.sqrt(np.prod(np.ptp(points, axis=0)))
    assert row.nme == pytest.approx(100 * 5 / size)
    np.testing.assert_allclose(row.angle_errors, (2, 3, 0), atol=1e-6)


def test_aflw_tables_balance_the_pose_ranges_and_count_what_is_missing():
    def row(yaw: float, nme: float) -> AflwRow:
        return AflwRow("x", yaw, nme, (2.0, 1.0, 0.0), (2.0, 1.0, 0.0))

    figures = aflw_figures([row(5, 2), row(-10, 4), row(45, 6), row(-80, 9), AflwRow("y", 3, error="no face")])
    assert figures.nme == {"0–30": 3, "30–60": 6, "60–90": 9, "balanced": 6, "all": 21 / 4}
    assert figures.missing == 1
    assert figures.angles["mean"] == 1
    assert figures.centred["mean"] == 0


def test_a_damaged_annotation_is_named(tmp_path):
    (tmp_path / "image1.jpg").write_bytes(b"")
    (tmp_path / "image1.mat").write_bytes(b"not a mat file")
    with pytest.raises(EvaluationError, match=r"image1\.mat"):
        read_aflw2000(tmp_path)


def test_the_svfr_zip_has_the_servers_layout(tmp_path):
    vertices, faces, points = mask_face(9)
    with SvfrZip(tmp_path / "svfr.zip") as submission:
        submission.add("017", "EMO-1-shout+laugh_156_221501007", "posed", vertices, faces, points)
        submission.add("017", "EMO-1-shout+laugh_156_221501007", "neutral", vertices, faces, points)
        with pytest.raises(EvaluationError, match="already"):
            submission.add("017", "EMO-1-shout+laugh_156_221501007", "posed", vertices, faces, points)
        with pytest.raises(EvaluationError, match="seven landmarks"):
            submission.add("017", "FREE_786_222200038", "posed", vertices, faces)
        with pytest.raises(EvaluationError, match="is not <participant>"):
            submission.add("../x", "FREE_786_222200038", "posed", vertices, faces, points)
    archive = zipfile.ZipFile(tmp_path / "svfr.zip")
    place = "017/EMO-1-shout+laugh_156_221501007"
    assert sorted(archive.namelist()) == sorted(
        f"{place}/{name}"
        for name in ("mesh_posed.ply", "mesh_neutral.ply", "landmarks_posed.npy", "landmarks_neutral.npy")
    )
    archive.extractall(tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / place / "landmarks_posed.npy"), points)
    np.testing.assert_allclose(read_mesh(tmp_path / place / "mesh_posed.ply").vertices, vertices, rtol=1e-6, atol=1e-5)


def test_a_zip_that_failed_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), SvfrZip(tmp_path / "svfr.zip"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_svfr_pictures_are_found_by_their_keys(tmp_path):
    (tmp_path / "017" / "images").mkdir(parents=True)
    (tmp_path / "017" / "images" / "EXP-2-eyes_000123_222200037.png").write_bytes(b"")
    (tmp_path / "017" / "images" / "notes.png").write_bytes(b"")
    (image,) = svfr_images(tmp_path)
    assert (image.participant, image.key) == ("017", "EXP-2-eyes_000123_222200037")
    with pytest.raises(EvaluationError, match="participant"):
        list(svfr_images(tmp_path / "017"))
