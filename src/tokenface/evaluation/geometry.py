"""Neutral geometry of rendered people whose shape is known: scan-to-mesh error, and its ratio to the mean head's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.evaluation.scan_to_mesh import measure, scan_face
from tokenface.evaluation.surface import Surface
from tokenface.head.landmarks import NOW7
from tokenface.head.model import HeadModel
from tokenface.network.components import FaceParameters


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
def predict_neutral(
    model: Callable[[Tensor], FaceParameters], head: HeadModel, images: Tensor, batch: int = 32
) -> Tensor:
    """[N, 3, S, S] → [N, V, 3] neutral vertices, metres."""
    return torch.cat([head(model(chunk).shape).vertices for chunk in images.split(batch)])


def neutral_distances(
    truth: np.ndarray, truth_landmarks68: np.ndarray, predicted: np.ndarray, head: HeadModel
) -> list[np.ndarray]:
    """Distances of every prediction, by NoW's non-metrical protocol.

    Args:
        truth: [N, P, 3] surface points of each person's neutral face, metres.  truth_landmarks68: [N, 68, 3].
        predicted: [N, V, 3] of `head`, or [1, V, 3] to measure one mesh against everybody.
    Returns:
        N times [points of the face region], millimetres.
    """
    faces, seven = head.faces.numpy(), list(NOW7)
    points = head.landmarks68(torch.as_tensor(np.asarray(predicted)).float()).numpy()[:, seven]
    surfaces = [Surface(vertices, faces) for vertices in predicted]
    if len(surfaces) == 1:
        surfaces, points = surfaces * len(truth), points.repeat(len(truth), axis=0)
    distances = []
    for scan, scan_points, surface, landmarks in zip(truth, truth_landmarks68, surfaces, points, strict=True):
        face = scan_face(scan, scan_points[seven])
        distances.append(measure(face, surface, landmarks).distances * 1000)
    return distances


def neutral_error(
    truth: np.ndarray, truth_landmarks68: np.ndarray, predicted: np.ndarray, head: HeadModel
) -> np.ndarray:
    """Error per prediction: [N] mean of `neutral_distances`, whose arguments it takes, millimetres."""
    return np.asarray([d.mean() for d in neutral_distances(truth, truth_landmarks68, predicted, head)])


def compare_with_mean_head(
    truth: np.ndarray, truth_landmarks68: np.ndarray, predicted: np.ndarray, head: HeadModel
) -> GeometryResult:
    """The network's neutral geometry beside the mean head's on the same people (arguments as `neutral_error`)."""
    return GeometryResult(
        error=float(neutral_error(truth, truth_landmarks68, predicted, head).mean()),
        mean_head_error=float(neutral_error(truth, truth_landmarks68, head.template.numpy()[None], head).mean()),
        people=len(truth),
    )
