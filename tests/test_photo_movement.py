"""Faces that do not move on photos are found, and labels tell self-training what moves."""

from __future__ import annotations

import pytest
import torch

from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.photo_movement import DISTANCES, deviations, distances, movement
from tokenface.evaluation.photo_statistics import projected_landmarks
from tokenface.geometry.landmarks import MIRROR68
from tokenface.head.registry import load_head
from tokenface.losses.vertex_weights import action_spread
from tokenface.training.labelled_movement import LabelledMovement
from tokenface.training.teaching import MOST_GAIN, gain

PICTURES = 8


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def faces(head):
    """Eight pictures each of eight people."""
    return SyntheticFaces(head, 32).sample(64, seed=3, images_per_identity=PICTURES, plain=True)


@pytest.fixture(scope="module")
def people():
    return [f"person {i // PICTURES}" for i in range(64)]


def test_distances_neither_turn_nor_grow_and_change_sides_in_a_mirror(faces):
    points = faces.landmarks68
    found = distances(points)
    turned = 0.3 * points @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]]) + 0.2
    torch.testing.assert_close(distances(turned), found, atol=1e-5, rtol=1e-4)
    mirrored = distances((points * torch.tensor([-1.0, 1.0]))[:, list(MIRROR68)])
    torch.testing.assert_close(mirrored, found[:, [1, 0, 3, 2, 4, 5, 6]], atol=1e-5, rtol=1e-4)


def test_the_truth_moves_and_faces_at_rest_do_not(head, faces, people):
    truth = faces.parameters
    right = movement(head, truth, faces.landmarks68, people)
    assert set(right) == {f"{n} {k}" for n in ("movement", *DISTANCES) for k in ("slope", "correlation")}
    assert right["movement slope"].value == pytest.approx(1, abs=0.08)
    assert right["movement correlation"].value > 0.93
    assert right["movement slope"].low < right["movement slope"].value < right["movement slope"].high
    dead = truth.replace(expression=truth.expression * 0, jaw=truth.jaw * 0)
    assert movement(head, dead, faces.landmarks68, people)["movement slope"].value == pytest.approx(0, abs=1e-6)
    half = truth.replace(expression=truth.expression / 2, jaw=truth.jaw / 2)
    assert movement(head, half, faces.landmarks68, people)["movement slope"].value == pytest.approx(0.5, abs=0.08)


def test_what_a_person_always_does_and_their_shape_say_nothing(head, faces, people):
    """Labels that are displaced on all photos of a person, and another shape for each."""
    truth = faces.parameters
    person = torch.arange(64) // PICTURES
    eyes = faces.landmarks68[:, 36:48]
    between = (eyes[:, 6:].mean(1) - eyes[:, :6].mean(1)).norm(dim=-1)[:, None]
    down = torch.zeros(64, 68, 2)
    down[:, 17:27, 1] = between * torch.linspace(-0.1, 0.1, 8)[person][:, None]
    level = truth.camera.clone()
    level[:, 1:4] = 0
    own = truth.replace(camera=level)
    points = projected_landmarks(head, own)
    told = deviations(head, own, points + down * _between(points) / between[..., None], person)
    plain = deviations(head, own, points, person)
    torch.testing.assert_close(told.labelled, plain.labelled, atol=5e-3, rtol=0)
    other = own.replace(shape=torch.zeros_like(own.shape))
    torch.testing.assert_close(deviations(head, other, points, person).predicted, plain.predicted)


def test_people_with_few_photos_and_turned_faces_are_left_out(head, faces):
    truth = faces.parameters
    person = torch.arange(64) // 2
    assert not len(deviations(head, truth, faces.landmarks68, person).rows)
    assert movement(head, truth, faces.landmarks68, [str(i // 2) for i in range(64)]) == {}
    turned = truth.camera.clone()
    turned[:, 1:4] = torch.tensor([0.0, 0.7, 0.0])
    turned[:4, 1:4] = 0
    found = deviations(head, truth.replace(camera=turned), faces.landmarks68, torch.zeros(64, dtype=torch.long))
    assert found.rows.tolist() == [0, 1, 2, 3]


def test_labels_tell_which_way_a_face_moves(head, faces, people):
    truth, person = faces.parameters, torch.arange(64) // PICTURES
    dead = truth.replace(expression=truth.expression * 0)
    labels = LabelledMovement(head, action_spread(head).cpu())
    told = dead.replace(expression=labels.correction(dead, faces.landmarks68, person).clamp(0, 1))
    before = movement(head, dead, faces.landmarks68, people)
    after = movement(head, told, faces.landmarks68, people)
    for name in ("right eye opening", "left eye opening", "right brow", "left brow", "mouth width"):
        assert after[f"{name} correlation"].value > 0.7, name
        assert after[f"{name} slope"].value > before[f"{name} slope"].value + 0.15, name
    names = list(head.expression_names)
    for action in ("eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight"):
        both = torch.stack([told.expression[:, names.index(action)], truth.expression[:, names.index(action)]])
        assert float(torch.corrcoef(both)[0, 1]) > 0.4, action
    nothing = labels.correction(truth.replace(shape=truth.shape * 0), projected_landmarks(head, truth), person)
    assert float(nothing.abs().mean()) < 0.3 * float(labels.correction(dead, faces.landmarks68, person).abs().mean())


def test_a_lesson_stretches_what_is_too_small_and_not_without_end():
    spread = torch.tensor([0.1, 0.01, 0.2, 0.0])
    rendered = torch.tensor([0.2, 0.2, 0.2, 0.2])
    assert gain(spread, rendered, torch.tensor(0.75)).tolist() == pytest.approx([1.5, MOST_GAIN, 0.75, MOST_GAIN])
    assert gain(spread, rendered, torch.tensor(0.0)).tolist() == [1, 1, 1, 1]


def _between(points):
    return (points[:, 42:48].mean(1) - points[:, 36:42].mean(1)).norm(dim=-1)[:, None, None]
