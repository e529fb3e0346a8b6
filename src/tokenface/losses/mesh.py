"""Vertex losses against ground truth: the mesh loss (Eq. 3) and its scale- and pose-free forms."""

from __future__ import annotations

from torch import Tensor

from tokenface.geometry.batched_similarity import best_rotation


def mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Region-weighted L1 (Eq. 3).

    Args:
        predicted, truth: [B, V, 3], metres.  weights: [V], sum to 1.
    Returns:
        [B], metres.
    """
    return ((predicted - truth).abs().sum(-1) * weights).sum(-1)


def scale_free_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mesh loss after the best scale and translation of the *prediction onto the truth*.

    Scale and depth cannot be seen in a photo; the reverse direction would reward shrinking to a point.
    """
    p, t = _centred(predicted, weights), _centred(truth, weights)
    scale = (p * t * weights[:, None]).sum((1, 2)) / (p.square() * weights[:, None]).sum((1, 2)).clamp_min(1e-12)
    return mesh_loss(scale[:, None, None] * p, t, weights)


def aligned_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mesh loss after the best similarity (rotation too) of the prediction onto the truth, as NoW measures.

    The rotation is found without gradient: at the optimum it does not change the squared error to first order.
    """
    return scale_free_mesh_loss(*_turned(predicted, truth, weights), weights)


def rigid_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mesh loss after the best rotation and translation of the prediction onto the truth; sizes must agree."""
    return mesh_loss(*_turned(predicted, truth, weights), weights)


def known_mesh_loss(predicted: Tensor, truth: Tensor, weights: Tensor, unknown: Tensor, metric: bool = True) -> Tensor:
    """Eq. 3, forgiving in each face what its truth leaves open.

    Args:
        unknown: [B] on the CPU, into `UNKNOWNS`: nothing, place and orientation, or these and the size.
        metric: False forgives scale and translation in all of them.
    Returns:
        [B], metres.
    """
    forms = (mesh_loss if metric else scale_free_mesh_loss, rigid_mesh_loss if metric else aligned_mesh_loss)
    losses = predicted.new_zeros(len(predicted))
    for number, form in enumerate((*forms, aligned_mesh_loss)):
        rows = (unknown == number).nonzero()[:, 0].to(predicted.device, non_blocking=True)
        if len(rows):
            losses = losses.index_copy(0, rows, form(predicted[rows], truth[rows], weights).to(losses))
    return losses


def _turned(predicted: Tensor, truth: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Both about their weighted centres, the prediction in the truth's orientation."""
    p, t = _centred(predicted, weights), _centred(truth, weights)
    return p @ best_rotation(p, t, weights).transpose(1, 2), t


def _centred(vertices: Tensor, weights: Tensor) -> Tensor:
    return vertices - (vertices * weights[:, None]).sum(1, keepdim=True) / weights.sum()
