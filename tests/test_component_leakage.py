"""Leakage between components on pairs of rendered pictures, and the trust in the points of turned faces."""

from __future__ import annotations

import math

import pytest
import torch

from tokenface.data.sampling import rotation_from_angles
from tokenface.evaluation.component_leakage import CHANGED, component_leakage, component_pairs
from tokenface.geometry.camera import Camera
from tokenface.geometry.rotations import rotmat_to_rotvec
from tokenface.head.registry import load_head
from tokenface.losses.pose_aware import label_angles
from tokenface.training.config import LossWeights
from tokenface.training.objective import RecipeObjective


@pytest.fixture(scope="module")
def pairs():
    return component_pairs(load_head("openhead"), 64, 6, seed=3)


def test_pairs_differ_in_one_component_alone(pairs):
    truth = pairs.truth
    assert pairs.changed == CHANGED
    assert len(pairs.image) == len(truth) == 6 * 6
    for k, name in enumerate(CHANGED, start=1):
        rows = slice(6 * k, 6 * k + 6)
        for other in ("shape", "expression", "jaw", "texture"):
            same = torch.equal(getattr(truth, other)[rows], getattr(truth, other)[:6])
            assert same == (other != name)
        turned = not torch.allclose(truth.camera[rows, 1:4], truth.camera[:6, 1:4], atol=1e-6)
        assert turned == (name == "camera")
        assert not torch.equal(pairs.image[rows], pairs.image[:6])


def test_the_truth_leaks_nothing_and_a_mixture_leaks_what_was_mixed(pairs):
    head = load_head("openhead")
    right = component_leakage(head, lambda _: pairs.truth, pairs)
    assert right["leak"] == pytest.approx(0, abs=1e-6)
    assert all(right[f"{name} own"] == pytest.approx(1) for name in CHANGED)
    half = pairs.truth.replace(expression=pairs.truth.expression * 0.5)
    assert component_leakage(head, lambda _: half, pairs)["expression own"] == pytest.approx(0.5)
    mixed = pairs.truth.shape.clone()
    mixed[:, :3] += 2 * pairs.truth.jaw
    found = component_leakage(head, lambda _: pairs.truth.replace(shape=mixed), pairs)
    arrows = {name for name, value in found.items() if "→" in name and value > 1e-6}
    assert arrows == {"jaw → shape"}
    assert found["leak"] == pytest.approx(found["jaw → shape"] / 25)


def test_angles_of_labels_are_those_of_the_head_that_made_them():
    head = load_head("openhead")
    yaw, pitch = (torch.deg2rad(torch.tensor(v)) for v in ([0.0, 30.0, -70.0, 10.0], [0.0, 5.0, -10.0, 40.0]))
    turn = rotmat_to_rotvec(rotation_from_angles(yaw, pitch, torch.tensor([0.0, 0.1, -0.2, 0.3])))
    camera = Camera(torch.full((4,), 7.0), turn, torch.zeros(4, 3))
    points = head.landmarks68(head.template[None])[0]
    labels = camera.project(points[None].expand(4, -1, -1))[..., :2] + 0.1
    found = label_angles(points, labels)
    torch.testing.assert_close(found, camera.angles()[:, :2], atol=2e-3, rtol=0)
    torch.testing.assert_close(found[:, 0], yaw, atol=2e-3, rtol=0)
    trust = RecipeObjective(head, LossWeights())._trust(labels)
    # Eq. 12 over its value at the front: 1 − 0.76 ξ / 1.6 with ξ the excess over 45°
    expected = 1 - 0.76 * math.radians(70 - 45) / 1.6
    torch.testing.assert_close(trust, torch.tensor([1.0, 1.0, expected, 1.0]), atol=2e-3, rtol=0)
