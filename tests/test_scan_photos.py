"""Scans with textures: read in any axes and unit, rendered upright, measured against what a network answers."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from tokenface.cli import run
from tokenface.errors import EvaluationError
from tokenface.evaluation.scan_files import mean_seven, read_scans
from tokenface.evaluation.scan_photos import LIGHTS, VIEWS, measure_scans, render_scan
from tokenface.geometry.landmarks import NOW7
from tokenface.head.registry import load_head
from tokenface.parameters import FaceParameters
from tokenface.render.shading import ambient_light
from tokenface.render.texture import HeadAlbedo


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def person(head) -> torch.Tensor:
    return torch.randn(1, head.sizes.shape, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def folder(head, person, tmp_path):
    """A rendered person as a scan in inches, lying on the back."""
    place = tmp_path / "scans" / "somebody"
    place.mkdir(parents=True)
    vertices = head(person).vertices
    axes = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)

    def moved(points):
        return points.double().numpy() @ axes.T * 39.37 + [3, 1, -2]

    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in moved(vertices[0])]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in head.data.uv]
    for corners, places in zip(head.data.faces + 1, head.data.uv_faces + 1, strict=True):
        lines.append("f " + " ".join(f"{a}/{b}" for a, b in zip(corners, places, strict=True)))
    (place / "scan.obj").write_text("\n".join(lines) + "\n")
    texture = HeadAlbedo(head)(torch.zeros(1, head.sizes.texture))[0].permute(1, 2, 0).numpy()
    cv2.imwrite(str(place / "scan.png"), (texture[..., ::-1] * 255).astype(np.uint8))
    points = moved(head.landmarks68(vertices)[0])
    np.savetxt(place / "scan.txt", points)
    return tmp_path / "scans"


def constant(shape: torch.Tensor, head):
    def predict(crops):
        count = len(crops)
        return FaceParameters(
            shape=shape.expand(count, -1), expression=torch.zeros(count, head.sizes.expression),
            jaw=torch.zeros(count, 3), camera=torch.zeros(count, 7), texture=torch.zeros(count, head.sizes.texture),
            light=ambient_light(count).flatten(1),
        )  # fmt: skip

    return predict


def test_the_person_itself_has_no_error_and_the_mean_head_has_ratio_one(head, person, folder):
    scans = read_scans(folder, head)
    right = measure_scans(constant(person, head), head, 64, scans)
    mean = measure_scans(constant(torch.zeros_like(person), head), head, 64, scans)
    assert right["scans"]["somebody"]["views"] == len(VIEWS) * len(LIGHTS)
    assert right["scans"]["somebody"]["pooled"] < 0.02
    assert right["mean over views"].value < 0.02
    assert mean["scans"]["somebody"]["mean over views"] == pytest.approx(1, abs=1e-6)
    assert 0.5 < mean["scans"]["somebody"]["mean head mm"] < 4


def test_the_scan_stands_upright_in_head_space_whatever_its_axes(head, person, folder):
    scan = read_scans(folder, head)[0]
    true = head.landmarks68(head(person).vertices)[0, list(NOW7)].numpy()
    turned, true = scan.seven - scan.seven.mean(0), true - true.mean(0)
    assert np.abs(turned / turned.std() - true / true.std()).max() < 0.2
    assert np.abs(scan.seven / 1000 - mean_seven(head)).max() < 0.01


def test_renderings_show_the_face_in_the_middle_and_differ_by_light_and_side(head, folder):
    names, images = render_scan(read_scans(folder, head)[0], head, 64)
    assert len(names) == len(images) == len(VIEWS) * len(LIGHTS)
    plain, left, right = images[0], images[1], images[2]
    assert float((plain[:, 28:36, 28:36] - 0.45).abs().mean()) > 0.03  # skin, not background
    assert float(left[:, 30:40, 10:25].mean()) > float(right[:, 30:40, 10:25].mean())
    assert float((images[0] - images[len(LIGHTS)]).abs().mean()) > 0.02


def test_labelled_landmarks_in_another_order_are_found(head, person, folder):
    place = folder / "somebody"
    points = np.loadtxt(place / "scan.txt")
    order = {
        "leye": points[42:48], "mouth": points[48:68], "reye": points[36:42], "nose": points[27:36],
        "chin": points[:17], "brows": points[17:27],
    }  # fmt: skip
    expected = read_scans(folder, head)[0].seven
    (place / "scan.txt").unlink()
    labels, first = [], 0
    for name, rows in order.items():
        labels.append({"label": name, "mask": list(range(first, first + len(rows)))})
        first += len(rows)
    document = {"labels": labels, "landmarks": {"points": np.concatenate(list(order.values())).tolist()}}
    (place / "scan.ljson").write_text(json.dumps({"groups": {"LJSON": document}, "version": 3}))
    np.testing.assert_allclose(read_scans(folder, head)[0].seven, expected, atol=1.5)


def test_photos_are_asked_where_there_are_some(head, person, folder):
    (folder / "somebody" / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        (folder / "somebody" / "photos" / name).write_bytes(b"-")
    seen = []

    def shape_of(path):
        seen.append(path.name)
        return person[0]

    found = measure_scans(constant(torch.zeros_like(person), head), head, 64, read_scans(folder, head), shape_of)
    assert seen == ["a.jpg", "b.png"]
    assert found["scans"]["somebody"]["pooled"] < 0.02


def test_folders_without_a_scan_or_with_two_are_named_in_one_line(head, folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EvaluationError, match="holds no scan"):
        read_scans(empty, head)
    (folder / "somebody" / "second.obj").write_text("v 0 0 0\n")
    with pytest.raises(EvaluationError, match="2 meshes"):
        read_scans(folder, head)
    assert run(["evaluate", "scans", str(empty)]) != 0
    assert "holds no scan" in capsys.readouterr().err


def test_a_scan_with_neither_photos_nor_texture_is_named(head, folder):
    (folder / "somebody" / "scan.png").unlink()
    with pytest.raises(EvaluationError, match="neither photos nor a texture"):
        measure_scans(constant(torch.zeros(1, head.sizes.shape), head), head, 64, read_scans(folder, head))
