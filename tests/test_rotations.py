"""Rotations against the package roma, and their derivatives against finite differences."""

from __future__ import annotations

import math

import pytest
import roma
import torch

from tokenface.geometry import rotations


def vectors() -> torch.Tensor:
    """[N, 3] float64: nothing, hardly anything, ordinary, half a turn almost, about every axis and in between."""
    axes = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1
    )
    axes = torch.cat([axes, torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    angles = torch.tensor([0.0, 1e-9, 1e-7, 1e-4, 0.1, 1.5, 3.0, math.pi - 1e-4], dtype=torch.float64)
    return (axes[:, None] * angles[:, None]).reshape(-1, 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-11)])
def test_matrices_are_romas(dtype: torch.dtype, tolerance: float) -> None:
    given = vectors().to(dtype)
    torch.testing.assert_close(rotations.rotvec_to_rotmat(given), roma.rotvec_to_rotmat(given), atol=tolerance, rtol=0)


def test_vectors_come_back_from_their_matrices() -> None:
    given = vectors()
    matrices = rotations.rotvec_to_rotmat(given)
    torch.testing.assert_close(rotations.rotmat_to_rotvec(matrices), given, atol=1e-8, rtol=0)
    torch.testing.assert_close(
        rotations.rotmat_to_rotvec(matrices.float()), roma.rotmat_to_rotvec(matrices.float()), atol=2e-3, rtol=0
    )
    shaped = matrices[:24].reshape(2, 3, 4, 3, 3)
    assert rotations.rotmat_to_rotvec(shaped).shape == (2, 3, 4, 3)


def test_derivatives_are_right_and_finite_at_rest() -> None:
    somewhere = torch.tensor([[0.3, -1.1, 0.4], [0.0, 2.0, 0.1], [1e-3, 0.0, 0.0]], dtype=torch.float64)
    somewhere.requires_grad_()
    assert torch.autograd.gradcheck(rotations.rotvec_to_rotmat, somewhere)
    matrices = rotations.rotvec_to_rotmat(somewhere).detach().requires_grad_()
    assert torch.autograd.gradcheck(rotations.rotmat_to_rotvec, matrices)
    rest = torch.zeros(1, 3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(rotations.rotvec_to_rotmat, rest)[0, :, :, 0]
    cross = torch.linalg.cross(torch.eye(3)[:, None].expand(3, 3, 3), torch.eye(3)[None].expand(3, 3, 3))
    torch.testing.assert_close(jacobian, cross.permute(2, 1, 0))  # ∂(R v)/∂r at rest is r × v
    eye = torch.eye(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotations.rotmat_to_rotvec(eye[None]).sum(), eye)
    assert torch.isfinite(gradient).all()


def test_the_angle_between_two_rotations() -> None:
    a, b = rotations.rotvec_to_rotmat(vectors()), rotations.rotvec_to_rotmat(vectors().flip(0))
    torch.testing.assert_close(rotations.rotation_angle(a, b), roma.rotmat_geodesic_distance(a, b), atol=1e-6, rtol=0)
