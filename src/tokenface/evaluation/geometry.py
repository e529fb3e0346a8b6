"""Geometry error on rendered people: scan-to-mesh distance, and its ratio to the mean head's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.evaluation.icp import Surface
from tokenface.evaluation.scan_to_mesh import measure, scan_face
from tokenface.geometry.landmarks import NOW7
from tokenface.head.model import HeadModel
from tokenface.head.subset import visible_skin
from tokenface.parameters import FaceParameters


@dataclass(frozen=True)
class GeometryResult:
    """Mean over people of the mean distance, millimetres; ratio = error / mean head's error."""

    error: float
    mean_head_error: float
    people: int

    @property
    def ratio(self) -> float:
        return self.error / self.mean_head_error


@dataclass(frozen=True)
class PeopleScans:
    """Known faces as a scanner would give them. points: [N, P, 3] visible skin.  seven: [N, 7, 3]. Metres."""

    points: np.ndarray
    seven: np.ndarray

    @staticmethod
    def of(head: HeadModel, vertices: Tensor) -> PeopleScans:
        """Args: head: of the people.  vertices: [N, V, 3] of it, neutral or posed.

        Every figure on rendered people is measured on these points: eyeballs, sockets, gums and the like are most of
        some models' vertices, no network is asked for them, and they would hide what the face's skin says.
        """
        landmarks = head.landmarks68(vertices)[:, list(NOW7)]
        return PeopleScans(vertices[:, torch.from_numpy(visible_skin(head.data))].numpy(), landmarks.numpy())


@torch.no_grad()
def predict_neutral(
    model: Callable[[Tensor], FaceParameters], head: HeadModel, images: Tensor, batch: int = 32
) -> Tensor:
    """[N, 3, S, S] → [N, V, 3] neutral vertices, metres."""
    return torch.cat([head(model(chunk).shape).vertices for chunk in images.split(batch)])


def face_distances(scans: PeopleScans, predicted: np.ndarray, head: HeadModel) -> list[np.ndarray]:
    """Distances of every prediction, by NoW's non-metrical protocol.

    Args:
        predicted: [N, V, 3] of `head`, or [1, V, 3] to measure one mesh against everybody.
    Returns:
        N times [points of the face region], millimetres.
    """
    faces = head.faces.numpy()
    points = head.landmarks68(torch.as_tensor(np.asarray(predicted)).float()).numpy()[:, list(NOW7)]
    surfaces = [Surface(vertices, faces) for vertices in predicted]
    if len(surfaces) == 1:
        surfaces, points = surfaces * len(scans.points), points.repeat(len(scans.points), axis=0)
    distances = []
    for scan, seven, surface, landmarks in zip(scans.points, scans.seven, surfaces, points, strict=True):
        distances.append(measure(scan_face(scan, seven), surface, landmarks).distances * 1000)
    return distances


def face_error(scans: PeopleScans, predicted: np.ndarray, head: HeadModel) -> np.ndarray:
    """Error per prediction: [N] mean of `face_distances`, whose arguments it takes, millimetres."""
    return np.asarray([d.mean() for d in face_distances(scans, predicted, head)])


def compare_with_mean_head(scans: PeopleScans, predicted: np.ndarray, head: HeadModel) -> GeometryResult:
    """The network's neutral geometry beside the mean head's on the same people (arguments as `face_error`)."""
    return GeometryResult(
        error=float(face_error(scans, predicted, head).mean()),
        mean_head_error=float(face_error(scans, head.template.numpy()[None], head).mean()),
        people=len(scans.points),
    )
