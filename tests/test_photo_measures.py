"""Measures on photos and rendered people: each says what was put in."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from tokenface.cli import run
from tokenface.data.warping import warp_faces
from tokenface.evaluation.face_space import FaceSpace
from tokenface.evaluation.landmarks import evaluation_crops
from tokenface.evaluation.photo_run import PhotoCounts, held_out_photos, measure_photos
from tokenface.evaluation.photo_statistics import (
    action_weights,
    expression_baseline,
    fit_label_bias,
    mean_prediction,
    projected_landmarks,
    without_label_bias,
)
from tokenface.evaluation.rendered_measures import leakage, r_squared, rendered_figures, rendered_people
from tokenface.evaluation.statistics import measured_over_people
from tokenface.evaluation.warp_response import ResponseTable, Spread, action_response, shape_response
from tokenface.geometry.camera import Camera
from tokenface.geometry.landmarks import MIRROR68
from tokenface.geometry.similarity import procrustes
from tokenface.head.registry import load_head
from tokenface.parameters import FaceParameters
from tokenface.render.shading import ambient_light
from tokenface.training.validation import Validation

SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def batch(head):
    return rendered_people(head, SIZE, 24, seed=5, plain=True)


def test_intervals_are_over_people_and_repeat_with_the_seed():
    values = np.repeat(np.arange(20.0), 5)
    people = np.repeat(np.arange(20), 5)

    def mean(rows):
        return {"mean": float(values[rows].mean())}

    one, two = measured_over_people(people, mean), measured_over_people(people, mean)
    alone = measured_over_people(np.arange(100), mean)
    assert one == two
    assert one["mean"].value == 9.5
    assert one["mean"].low < 9.5 < one["mean"].high
    ratio = (one["mean"].high - one["mean"].low) / (alone["mean"].high - alone["mean"].low)
    assert ratio == pytest.approx(5**0.5, rel=0.3)  # five pictures of a person count as one


def test_the_metric_of_identity_is_the_distance_after_procrustes(head):
    space = FaceSpace(head)
    shape = torch.randn(3, head.sizes.shape, generator=torch.Generator().manual_seed(2)) * 0.3
    region = torch.from_numpy(head.data.regions["face"].astype(np.int64))
    mean = head.template[region].double().numpy()
    for vertices, found in zip(head(shape).vertices[:, region].double().numpy(), space.rms(shape.numpy()), strict=True):
        moved = procrustes(vertices, mean).apply(vertices)
        assert 1000 * np.sqrt(((moved - mean) ** 2).sum(1).mean()) == pytest.approx(found, rel=0.03)


def test_a_constant_grimace_and_a_constant_identity_are_found(head):
    generator = torch.Generator().manual_seed(0)
    count = 400
    expression = torch.zeros(count, head.sizes.expression)
    expression[:, head.expression_names.index("mouthFrownLeft")] = 0.4
    expression[: count // 2, head.expression_names.index("browInnerUp")] = 0.9  # half do it: no bias
    jaw = torch.zeros(count, 3)
    jaw[:, 0] = 0.043  # jawOpen 0.1
    p = FaceParameters(
        shape=torch.zeros(count, 1), expression=expression, jaw=jaw, camera=torch.zeros(count, 7),
        texture=torch.zeros(count, 1), light=torch.zeros(count, 27),
    )  # fmt: skip
    names, weights = action_weights(head, p)
    found = dict(zip(names, expression_baseline(weights), strict=True))
    assert len(names) == 51
    assert found.pop("mouthFrownLeft") == pytest.approx(0.4)
    assert found.pop("jawOpen") == pytest.approx(0.1)
    assert sum(found.values()) == 0
    space = FaceSpace(head)
    constant = torch.randn(1, head.sizes.shape, generator=generator).double().numpy()
    shapes = constant + torch.randn(count, head.sizes.shape, generator=generator).double().numpy()
    figures = mean_prediction(space, shapes)
    assert figures["mean prediction mm"] == pytest.approx(space.rms(constant)[0], rel=0.1)
    assert figures["spread / people"] == pytest.approx(1, rel=0.1)


def test_the_habit_of_labels_is_taken_out_in_turned_and_tilted_faces():
    generator = torch.Generator().manual_seed(1)
    count = 300
    predicted = torch.randn(count, 68, 2, generator=generator) * 0.05 + torch.randn(68, 2, generator=generator) * 0.4
    yaw, roll = (torch.randn(count, generator=generator) * 0.4 for _ in range(2))
    mirror, flip = list(MIRROR68), torch.tensor([-1.0, 1.0])
    a, b = torch.randn(2, 68, 2, generator=generator) * 0.03
    a, b = (a + a[mirror] * flip) / 2, (b - b[mirror] * flip) / 2
    cos, sin = roll.cos(), roll.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    size = (predicted.amax(1) - predicted.amin(1)).prod(-1).sqrt()[:, None, None]
    truth = predicted + size * ((a + b * yaw.sin()[:, None, None]) @ turn)
    people = [f"p{i // 5}" for i in range(count)]
    left = (without_label_bias(predicted, truth, yaw, roll, people) - truth).norm(dim=-1).mean()
    assert float(left) < 0.15 * float((predicted - truth).norm(dim=-1).mean())
    bias = fit_label_bias(torch.randn(50, 68, 2, generator=generator), yaw[:50])
    torch.testing.assert_close(bias[0][mirror] * flip, bias[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(-bias[1][mirror] * flip, bias[1], atol=1e-5, rtol=0)


def test_roll_is_the_cameras(head):
    """A tilted head's brow stands where the turn of the camera's roll puts it."""
    zero = torch.zeros(2, 1)
    camera = torch.tensor([[8.0, 0, 0, 0, 0, 0, 0], [8.0, 0, 0, 0.5, 0, 0, 0]])
    p = FaceParameters(
        shape=zero, expression=torch.zeros(2, head.sizes.expression), jaw=torch.zeros(2, 3), camera=camera,
        texture=zero, light=ambient_light(2).flatten(1),
    )  # fmt: skip
    points = projected_landmarks(head, p)
    roll = Camera.from_vector(camera).angles()[:, 2]
    assert torch.allclose(roll, torch.tensor([0.0, 0.5]), atol=1e-5)
    brows = list(range(17, 27))
    predicted = torch.cat([points[:1].expand(20, -1, -1), points[1:].expand(2, -1, -1)])
    labels = predicted.clone()
    labels[:20, brows, 1] -= 0.05  # on upright photos annotators put brows higher; of the tilted two nothing is known
    rolls = torch.cat([roll[:1].expand(20), roll[1:].expand(2)])
    moved = (
        without_label_bias(predicted, labels, torch.zeros(22), rolls, [f"p{i}" for i in range(22)])[20:]
        - predicted[20:]
    )
    direction = moved[:, brows].mean((0, 1))
    expected = torch.tensor([-np.sin(0.5), -np.cos(0.5)]).float()
    assert torch.allclose(direction / direction.norm(), expected, atol=0.05)


def test_r_squared_is_negative_for_what_is_worse_than_the_mean_and_absent_without_variance():
    truth = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    assert r_squared(truth, truth)[0] == 1
    assert r_squared(truth[::-1], truth)[0] == -3
    assert np.isnan(r_squared(truth, truth)[1])


def test_the_leakage_matrix_is_the_linear_map_that_was_put_in():
    generator = np.random.default_rng(0)
    truth = generator.random((4000, 3)) * [1, 1, 0]
    mixing = np.array([[0.5, 0.2, 0.0], [0.0, 0.8, 0.1], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(leakage(truth @ mixing + 0.3, truth, ridge=1e-6), mixing, atol=1e-3)


def test_the_truth_itself_has_every_figure_right_and_the_mean_has_none(head, batch):
    truth = batch.parameters
    figures, actions, _ = rendered_figures(head, truth, truth)
    for name in ("mean r²", "gaze", "brows", "lips", "blink difference", "jaw", "shape", "shape slope", "light",
                 "texture std ratio", "cheek correlation", "light std ratio"):  # fmt: skip
        assert figures[name].value == pytest.approx(1, abs=1e-4), name
    assert figures["camera degrees"].value == pytest.approx(0, abs=0.1)
    assert set(actions) == set(head.expression_names)
    mean = FaceParameters(**{n: v.mean(0, keepdim=True).expand_as(v) for n, v in truth.items()})
    figures, _, _ = rendered_figures(head, mean, truth)
    for name in ("mean r²", "jaw", "shape", "shape slope", "light", "texture std ratio", "cheek correlation"):
        assert figures[name].value == pytest.approx(0, abs=1e-4), name


def test_plain_people_look_ahead(batch):
    yaw = torch.rad2deg(Camera.from_vector(batch.parameters.camera).angles()[:, 0])
    assert float(yaw.abs().max()) <= 45.5
    assert len(batch) == 24
    assert len(set(batch.parameters.shape[:, 0].tolist())) == 24


class KnowsTheChange:
    """Predicts a share of the known change of whatever was warped, and moves the light a little."""

    def __init__(self, monkeypatch, share: float):
        self.changes: list[tuple[FaceParameters, FaceParameters]] = []
        self.share = share

        def remembered(images, head, first, after, **options):
            warped = warp_faces(images, head, first, after, **options)
            self.changes.append((first, warped.parameters))
            return warped

        monkeypatch.setattr("tokenface.evaluation.warp_response.warp_faces", remembered)

    def __call__(self, images):
        first, after = self.changes.pop()
        found = {n: v + self.share * (dict(after.items())[n] - v) for n, v in first.items()}
        found["camera"] = after.camera
        return FaceParameters(**found).replace(light=first.light + 0.01)


def test_half_of_a_change_has_slope_one_half_explains_all_and_leaks_where_it_was_put(head, batch, monkeypatch):
    before, people = batch.parameters, [f"p{i}" for i in range(24)]
    knows = KnowsTheChange(monkeypatch, 0.5)
    table = ResponseTable(head, Spread.of(before))
    for response in (
        shape_response(knows, head, batch.image, before, people),
        action_response(knows, head, batch.image, before, people, "mouthSmileLeft"),
    ):
        row = table.row(response)
        assert row["slope"].value == pytest.approx(0.5, abs=1e-3)
        assert row["explained"].value == pytest.approx(1, abs=1e-3)
        assert row["light"].value == pytest.approx(0.01 * 27**0.5 / table.spread.light, rel=1e-2)
        for name in ("expression", "jaw", "camera", "texture"):
            assert row[name].value == pytest.approx(0, abs=1e-4), name
    assert row["shape"].value == pytest.approx(0, abs=1e-4)
    smiles = response.wanted[:, [head.expression_names.index(f"mouthSmile{side}") for side in ("Left", "Right")]]
    assert ((smiles > 0).sum(1) == 1).all()
    assert smiles.min(0).tolist() == [0, 0]
    assert smiles.max(0) == pytest.approx([0.6, 0.6])


def photo_tar(path, batch, people: int):
    points = (batch.landmarks68 + 1) * (SIZE / 2)
    with tarfile.open(path, "w") as archive:
        for person in range(people):
            for photo in range(2):
                i = (person + photo) % len(batch)
                picture = io.BytesIO()
                pixels = (batch.image[i].permute(1, 2, 0) * 255).byte().numpy()
                Image.fromarray(pixels).save(picture, "png")
                label = {"identity": f"p{person:03d}", "landmarks68": points[i].tolist()}
                for suffix, content in ((".png", picture.getvalue()), (".json", json.dumps(label).encode())):
                    entry = tarfile.TarInfo(f"{person:03d}-{photo}{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return path


def test_the_whole_document_has_every_section(head, batch, tmp_path):
    photos = held_out_photos(photo_tar(tmp_path / "photos.tar", batch, 64), 20)
    assert len(photos.records) == 20
    images, _ = evaluation_crops(photos.records, SIZE)

    def still(crops):
        return FaceParameters(**{n: v[:1].expand(len(crops), -1) for n, v in batch.parameters.items()})

    counts = PhotoCounts(photos=20, action_photos=4, rendered=6, plain=4)
    document = measure_photos(still, head, SIZE, photos, counts)
    assert document["photos"]["photos"] == len(images)
    assert document["photos"]["figures"]["spread mm"].value == pytest.approx(0, abs=1e-6)
    assert document["photos"]["responses"]["shape"]["slope"].value == pytest.approx(0, abs=1e-6)
    assert set(document["rendered"]) == {"all", "plain"}
    assert len(document["rendered"]["plain"]["leakage"]) == head.sizes.expression
    raw, shifted = (document["photos"]["figures"][f"68 points {name} %"].value for name in ("raw", "shift removed"))
    assert raw != shifted


def test_a_tar_with_too_few_people_is_one_line(batch, tmp_path, capsys):
    tar = photo_tar(tmp_path / "photos.tar", batch, 3)
    assert run(["evaluate", "photos", str(tar), "--quick", "-o", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert "photos.tar" in error
    assert "Traceback" not in error


def test_the_training_curve_has_the_cheap_measures_of_a_network_that_knows(head, batch, tmp_path):
    photos = held_out_photos(photo_tar(tmp_path / "photos.tar", batch, 64), 12).records
    validation = Validation(head, photos, SIZE, 6)

    def still(crops):
        return FaceParameters(**{n: v[:1].expand(len(crops), -1) for n, v in batch.parameters.items()})

    def knowing(crops):
        return validation.truth if len(crops) == 6 else still(crops)

    figures = validation.run(knowing)
    for name in ("r2_actions", "r2_gaze", "r2_brows", "r2_light", "texture_std", "cheek_correlation"):
        assert figures[name] == pytest.approx(1, abs=1e-4), name
    assert figures["neutral_ratio"] < 0.1
    shape = batch.parameters.shape[:1].double().numpy()
    assert figures["mean_prediction_mm"] == pytest.approx(FaceSpace(head).rms(shape)[0], rel=1e-4)
    weights = action_weights(head, batch.parameters[:1])[1]
    assert figures["expression_baseline"] == pytest.approx(weights.sum(), rel=1e-4)
    assert {"photo_nme", "photo_nme_unbiased", "synthetic_nme"} <= set(figures)
    assert all(np.isfinite(list(figures.values())))
