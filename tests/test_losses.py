"""Losses against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import roma
import torch

from tokenface.losses.landmark import eyelid_loss, landmark_loss, landmark_uncertainty_loss, lip_loss
from tokenface.losses.mesh import aligned_mesh_loss, mesh_loss, scale_free_mesh_loss
from tokenface.losses.regularisation import (
    coefficient_loss,
    range_loss,
    regularisation_loss,
    sparse_loss,
    standardised_loss,
)
from tokenface.parameters import FaceParameters


@pytest.fixture
def points() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(50, generator=generator)
    return torch.randn(4, 50, 3, generator=generator), weights / weights.sum()


def test_mesh_loss_of_a_uniform_offset_is_its_l1_length(points):
    vertices, weights = points
    loss = mesh_loss(vertices + torch.tensor([0.1, -0.2, 0.3]), vertices, weights)
    torch.testing.assert_close(loss, torch.full((4,), 0.6))


def test_scale_free_loss_ignores_scale_and_translation_but_not_rotation(points):
    vertices, weights = points
    moved = 1.7 * vertices + torch.tensor([1.0, 2.0, 3.0])
    assert scale_free_mesh_loss(moved, vertices, weights).max() < 1e-5
    turned = vertices @ roma.rotvec_to_rotmat(torch.tensor([0.0, 0.3, 0.0])).T
    assert scale_free_mesh_loss(turned, vertices, weights).min() > 0.05


def test_aligned_loss_ignores_every_similarity(points):
    vertices, weights = points
    rotation = roma.rotvec_to_rotmat(torch.tensor([[0.4, -0.8, 1.1]] * 4))
    moved = 0.6 * vertices @ rotation.transpose(1, 2) + 5.0
    assert aligned_mesh_loss(moved, vertices, weights).max() < 1e-4


def test_aligned_loss_does_not_use_a_reflection(points):
    vertices, weights = points
    mirrored = vertices * torch.tensor([-1.0, 1.0, 1.0])
    assert aligned_mesh_loss(mirrored, vertices, weights).min() > 0.1


def test_shrinking_the_prediction_does_not_lower_the_scale_free_loss(points):
    vertices, weights = points
    noisy = vertices + 0.3 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    small = scale_free_mesh_loss(noisy * 1e-3, vertices, weights)
    torch.testing.assert_close(small, scale_free_mesh_loss(noisy, vertices, weights), rtol=1e-3, atol=1e-5)


def test_landmark_loss_leaves_invisible_points_out():
    truth = torch.zeros(1, 3, 2)
    predicted = torch.tensor([[[0.1, 0.1], [9.0, 9.0], [0.3, 0.0]]])
    visible = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(landmark_loss(predicted, truth, visible), torch.tensor([0.25]))


def test_lid_and_lip_losses_compare_offset_vectors_not_distances():
    truth = torch.zeros(1, 68, 2)
    truth[:, [37, 61]] = torch.tensor([0.0, 0.2])
    turned = torch.zeros(1, 68, 2)
    turned[:, [37, 61]] = torch.tensor([0.2, 0.0])  # same distance, other direction
    torch.testing.assert_close(eyelid_loss(turned, truth), torch.tensor([0.4 / 4]))
    torch.testing.assert_close(lip_loss(turned, truth), torch.tensor([0.4 / 3]))
    torch.testing.assert_close(eyelid_loss(truth + 0.5, truth), torch.zeros(1))


def test_uncertainty_is_least_where_sigma_is_the_distance_made():
    predicted, truth = torch.zeros(1, 68, 2), torch.full((1, 68, 2), 0.3 / math.sqrt(2))
    best = torch.full((1, 68), math.log(0.3))
    at_best = landmark_uncertainty_loss(predicted, truth, best)
    assert at_best < landmark_uncertainty_loss(predicted, truth, best + 0.2)
    assert at_best < landmark_uncertainty_loss(predicted, truth, best - 0.2)


def test_regularisation_is_the_weighted_sum_of_squares():
    ones = FaceParameters(*(torch.ones(2, n) for n in (3, 4, 3, 7, 5, 27)))
    torch.testing.assert_close(regularisation_loss(ones, 1.0, 10.0, 100.0), torch.full((2,), 3.0 + 40.0 + 500.0))


def test_range_loss_counts_only_what_is_outside():
    torch.testing.assert_close(range_loss(torch.tensor([[0.5, 1.25, -0.5]]), 0.0, 1.0), torch.tensor([0.75]))


def test_coefficient_loss_counts_modes_by_their_importance_and_the_mean_answer_costs_one():
    truth = torch.randn(4000, 3, generator=torch.Generator().manual_seed(3))
    importance = torch.tensor([1.0, 0.0, 3.0])
    loss = coefficient_loss(torch.zeros_like(truth), truth, importance)
    assert loss.mean() == pytest.approx(1.0, abs=0.06)
    wrong_where_unseen = truth + torch.tensor([0.0, 5.0, 0.0])
    torch.testing.assert_close(coefficient_loss(wrong_where_unseen, truth, importance), torch.zeros(4000))


def test_the_best_prediction_of_an_action_that_rests_more_often_than_not_is_rest():
    weights = torch.tensor([0.0] * 6 + [0.4] * 4)[:, None]
    candidates = torch.linspace(0, 0.4, 41)
    spread = torch.tensor([0.2])
    sparse = [float(sparse_loss(c.expand(10, 1), weights, spread).mean()) for c in candidates]
    squared = [float(standardised_loss(c.expand(10, 1), weights, spread).mean()) for c in candidates]
    assert float(candidates[int(np.argmin(sparse))]) < 0.02  # squares would settle at the mean
    assert float(candidates[int(np.argmin(squared))]) == pytest.approx(0.16, abs=0.006)
