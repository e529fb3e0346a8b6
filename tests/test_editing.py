"""Faces changed by hand: what changes, what stays, and that light turns as light does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

from tokenface.app.editing import Edit, edited, turned_light
from tokenface.app.presets import PAIRS, PRESETS
from tokenface.errors import TokenFaceError
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.head.model import HeadModel
from tokenface.inference.face import Face
from tokenface.render.shading import sh_basis


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    model = stand_in_model(HeadModel(toy_head_data()))
    found = model.reconstruct([photo_with_marks((60, 40, 40)), photo_with_marks((30, 30, 24))])
    other = found[1].parameters
    found[1].parameters.shape.copy_(-2 * other.shape)
    return found


def test_no_edit_changes_nothing(faces: list[Face]) -> None:
    same = edited(faces[0], Edit())
    for (_, before), (_, after) in zip(faces[0].parameters.items(), same.parameters.items(), strict=True):
        assert torch.equal(before, after)
    assert same.camera is faces[0].camera


def test_actions_that_are_given_take_their_values_and_others_stay(faces: list[Face]) -> None:
    before = faces[0].arkit
    after = edited(faces[0], Edit(arkit={"cheekPuff": 0.25, "jawOpen": 0.9})).arkit
    assert before is not None
    assert after is not None
    expected = {**before, "cheekPuff": 0.25, "jawOpen": 0.9}
    assert after == pytest.approx(expected, abs=1e-6)


def test_a_jaw_that_arkit_has_no_word_for_stays_when_the_mouth_opens(faces: list[Face]) -> None:
    face = edited(faces[0], Edit())
    face.parameters.jaw.copy_(torch.tensor([0.1, 0.0, 0.07]))
    opened = edited(face, Edit(arkit={"jawOpen": 1.0})).parameters.jaw
    assert float(opened[2]) == pytest.approx(0.07)
    assert float(opened[0]) == pytest.approx(0.43, abs=1e-6)
    faces[0].parameters.jaw.copy_(torch.tensor([0.2, 0.0, 0.0]))


@pytest.mark.parametrize("angles", [(0.5, 0.0, 0.0), (-0.3, 0.2, 0.4)])
def test_a_turned_head_has_the_angles_and_stays_in_its_place(faces: list[Face], angles: tuple[float, ...]) -> None:
    turned = edited(faces[0], Edit(angles=angles))  # type: ignore[arg-type]
    assert turned.camera.angles == pytest.approx(angles, abs=1e-6)
    middle = faces[0].vertices.mean(axis=0, keepdims=True)
    assert np.allclose(turned.camera.project(middle), faces[0].camera.project(middle), atol=1e-3)
    assert np.allclose(turned.parameters.camera.numpy(), turned.camera.vector, atol=1e-5)
    assert turned.camera.pixels_per_metre == pytest.approx(faces[0].camera.pixels_per_metre)


def test_blends_go_from_one_person_to_the_other(faces: list[Face]) -> None:
    first, second = faces
    half = edited(first, Edit(other=second, share=0.5))
    whole = edited(first, Edit(other=second, share=1.0))
    assert torch.allclose(half.parameters.shape, (first.parameters.shape + second.parameters.shape) / 2)
    assert np.allclose(whole.neutral_vertices, second.neutral_vertices, atol=1e-6)
    assert not np.allclose(whole.neutral_vertices, first.neutral_vertices, atol=1e-3)
    assert torch.equal(whole.parameters.expression, first.parameters.expression)


def test_people_of_different_head_models_do_not_blend(faces: list[Face]) -> None:
    stranger = stand_in_model(HeadModel(toy_head_data(seed=3))).reconstruct(photo_with_marks((60, 40, 40)))[0]
    with pytest.raises(TokenFaceError, match="different head models"):
        edited(faces[0], Edit(other=stranger, share=0.5))


def test_an_unknown_action_is_refused(faces: list[Face]) -> None:
    with pytest.raises(TokenFaceError, match="'grin' is not one of ARKit's 52 actions"):
        edited(faces[0], Edit(arkit={"grin": 1.0}))


def test_turned_light_falls_on_a_surface_as_the_old_light_on_the_surface_turned_back() -> None:
    light = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    # to the right about the upward axis, after up about the axis that points left
    turn = Rotation.from_rotvec([0, 0.7, 0]) * Rotation.from_rotvec([-0.4, 0, 0])
    back = torch.from_numpy(turn.inv().apply(directions.numpy()))
    new = sh_basis(directions) @ turned_light(light, 0.7, 0.4)
    assert torch.allclose(new, sh_basis(back) @ light, atol=1e-9)


def test_light_from_the_viewer_turned_to_the_right_comes_from_the_right() -> None:
    light = torch.zeros(9, 3)
    light[3] = 1.0  # from the viewer
    turned = turned_light(light, math.pi / 2, 0.0)
    received = sh_basis(torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [-1.0, 0, 0]])) @ turned
    assert received[0, 0] > 0.9 * received.abs().max()
    assert abs(received[1, 0]) < 1e-5
    assert received[2, 0] == pytest.approx(-float(received[0, 0]), abs=1e-5)


def test_strength_is_a_factor(faces: list[Face]) -> None:
    brighter = edited(faces[0], Edit(light_strength=1.5))
    assert torch.allclose(brighter.parameters.light, 1.5 * faces[0].parameters.light, atol=1e-5)


def test_presets_are_expressions_and_sides_are_paired_as_a_face_is() -> None:
    for weights in PRESETS.values():
        assert set(weights) <= set(ARKIT_NAMES)
        assert all(0 < weight <= 1 for weight in weights.values())
    pairs = dict(PAIRS)
    assert pairs["mouthSmileLeft"] == "mouthSmileRight"
    assert pairs["eyeLookInLeft"] == "eyeLookOutRight"
    assert not {"jawLeft", "mouthLeft"} & set(pairs)
    paired = [*pairs, *pairs.values()]
    assert len(paired) == len(set(paired)) == sum("Left" in name or "Right" in name for name in ARKIT_NAMES) - 4
    look = PRESETS["Look aside"]
    assert {pairs[name] for name in look if name in pairs} <= set(look)  # one eye out, the other in
