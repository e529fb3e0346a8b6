"""Label offsets: mirror-symmetric, turned and scaled with the face, and learned from labels with a bias."""

from __future__ import annotations

import math

import pytest
import torch

from tokenface.geometry.camera import Camera
from tokenface.geometry.landmarks import MIRROR68
from tokenface.network.labels import LabelOffsets, adapted


def camera(yaw: float, roll: float = 0.0, scale: float = 7.0) -> Camera:
    import roma

    turn = roma.rotvec_to_rotmat(torch.tensor([[0.0, 0.0, roll]])) @ roma.rotvec_to_rotmat(
        torch.tensor([[0.0, yaw, 0.0]])
    )
    return Camera(torch.tensor([scale]), roma.rotmat_to_rotvec(turn), torch.zeros(1, 3))


@pytest.fixture
def offsets() -> LabelOffsets:
    module = LabelOffsets(("a", "b"))
    with torch.no_grad():
        module.offsets.copy_(torch.randn(module.offsets.shape, generator=torch.Generator().manual_seed(0)))
    return module


def test_a_mirrored_face_has_mirrored_offsets(offsets):
    points = torch.randn(1, 68, 2, generator=torch.Generator().manual_seed(1))
    mirrored = points[:, list(MIRROR68)] * torch.tensor([-1.0, 1.0])
    moved = offsets(points, camera(0.6, 0.2), "b")
    other = offsets(mirrored, camera(-0.6, -0.2), "b")
    assert torch.allclose(other[:, list(MIRROR68)] * torch.tensor([-1.0, 1.0]), moved, atol=1e-6)


def test_offsets_turn_with_the_picture_and_grow_with_the_face(offsets):
    points = torch.zeros(1, 68, 2)
    upright = offsets(points, camera(0.3), "a")[0]
    turned = offsets(points, camera(0.3, math.pi / 2, scale=14.0), "a")[0]
    # a quarter turn anticlockwise on a picture whose y points down: x → −y, y → x
    expected = torch.stack([upright[:, 1], -upright[:, 0]], dim=-1) * 2
    assert torch.allclose(turned, expected, atol=1e-6)


def test_a_bias_of_the_annotators_is_learned_and_sources_stay_apart():
    generator = torch.Generator().manual_seed(2)
    module = LabelOffsets(("a", "b"))
    bias = torch.zeros(3, 68, 2)
    bias[0, 8, 1], bias[1, 30, 0] = 3.0, 2.0  # chin lower by 3 mm; the nose tip follows the turn, by 2 mm · sin yaw
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        yaw = float(torch.rand(1, generator=generator)) * 2 - 1
        points, c = torch.randn(1, 68, 2, generator=generator), camera(yaw)
        optimiser.zero_grad()
        (module(points, c, "a") - adapted(points, c, bias)).square().sum().mul(1e6).backward()
        optimiser.step()
    learned = module.coefficients()[0]
    assert float(learned[0, 8, 1]) == pytest.approx(3.0, abs=0.2)
    assert float(learned[1, 30, 0]) == pytest.approx(2.0, abs=0.3)
    assert float(module.coefficients()[1].abs().max()) == 0


def test_an_unknown_source_is_named(offsets):
    with pytest.raises(KeyError, match="nowhere"):
        offsets(torch.zeros(1, 68, 2), camera(0.0), "nowhere")
