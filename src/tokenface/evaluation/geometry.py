"""Neutral geometry of rendered people whose shape is known: scan-to-mesh error, and its ratio to the mean head's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.evaluation.scan_to_mesh import crop_face, scan_to_mesh_distances
from tokenface.head.landmarks import NOW7
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace


@dataclass(frozen=True)
class GeometryResult:
    """Mean over people of the mean distance, millimetres; ratio = error / mean head's error."""

    error: float
    mean_head_error: float
    people: int

    @property
    def ratio(self) -> float:
        return self.error / self.mean_head_error


@torch.no_grad()
def predict_neutral(model: TokenFace, head: HeadModel, images: Tensor, batch: int = 32) -> Tensor:
    """[N, 3, S, S] → [N, V, 3] neutral vertices, metres."""
    return torch.cat([head(model(chunk).shape).vertices for chunk in images.split(batch)])


def neutral_error(
    truth: np.ndarray, truth_landmarks68: np.ndarray, predicted: np.ndarray, head: HeadModel
) -> np.ndarray:
    """Error per prediction.

    Args:
        truth: [N, P, 3] surface points of each person's neutral face, metres.  truth_landmarks68: [N, 68, 3].
        predicted: [N, V, 3] of `head`.
    Returns:
        [N] mean distance over the NoW face region, millimetres.
    """
    faces = head.faces.numpy()
    landmarks = head.landmarks68(torch.from_numpy(predicted).float()).numpy()
    errors = []
    for scan, scan_points, vertices, points in zip(truth, truth_landmarks68, predicted, landmarks, strict=True):
        seven = scan_points[list(NOW7)]
        scan = scan[crop_face(scan, seven)]
        errors.append(scan_to_mesh_distances(scan, seven, vertices, faces, points[list(NOW7)]).mean() * 1000)
    return np.asarray(errors)


def compare_with_mean_head(
    truth: np.ndarray, truth_landmarks68: np.ndarray, predicted: np.ndarray, head: HeadModel
) -> GeometryResult:
    """The network's neutral geometry beside the mean head's on the same people (arguments as `neutral_error`)."""
    mean_head = np.broadcast_to(head.template.numpy(), (len(truth), *head.template.shape))
    return GeometryResult(
        error=float(neutral_error(truth, truth_landmarks68, predicted, head).mean()),
        mean_head_error=float(neutral_error(truth, truth_landmarks68, np.ascontiguousarray(mean_head), head).mean()),
        people=len(truth),
    )
