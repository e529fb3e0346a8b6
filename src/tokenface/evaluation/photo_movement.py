"""Movement on photos: predicted expression and jaw alone, against the annotated points within each person.

A network that predicts a resting face for everybody has perfect baselines. So each distance of DISTANCES is measured
twice: on the labels, and on the mean head with the predicted expression, jaw and camera, the mean head at rest in the
same camera taken from both. What is compared are deviations from each person's mean over their photos: shape, and where
annotators put their points on everybody, drop out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tokenface.evaluation.photo_statistics import projected_landmarks
from tokenface.evaluation.statistics import Measured, measured_over_people
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

LEAST_PHOTOS = 3
"""Of a person, for a mean to deviate from."""
MOST_YAW = np.deg2rad(30)
"""Beyond, one half of the face is seen too flatly to measure."""


DISTANCES = ("right eye opening", "left eye opening", "right brow", "left brow", "mouth width", "mouth opening",
             "lip corners")  # fmt: skip


def distances(points: Tensor) -> Tensor:
    """DISTANCES of 68 points [N, 68, 2], along or across the line between the eyes, over its length: [N, K]."""
    right, left = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    between = (left - right).norm(dim=-1, keepdim=True).clamp_min(1e-9)
    along = (left - right) / between
    down = torch.stack([-along[:, 1], along[:, 0]], dim=-1)

    def height(a: int, b: int) -> Tensor:
        """Of point a above point b."""
        return ((points[:, b] - points[:, a]) * down).sum(-1) / between[:, 0]

    def mean_height(*pairs: tuple[int, int]) -> Tensor:
        return torch.stack([height(*pair) for pair in pairs]).mean(0)

    return torch.stack(
        [
            mean_height((37, 41), (38, 40)),
            mean_height((43, 47), (44, 46)),
            mean_height((18, 36), (19, 36), (20, 39)),
            mean_height((25, 45), (24, 45), (23, 42)),
            ((points[:, 54] - points[:, 48]) * along).sum(-1) / between[:, 0],
            height(62, 66),
            mean_height((48, 51), (54, 51), (48, 57), (54, 57)),
        ],
        dim=-1,
    )


class Deviations(NamedTuple):
    """[M, K] of DISTANCES from each person's mean, on photos that can be measured. rows: [M] their places.
    person: [M] small numbers."""

    rows: Tensor
    person: Tensor
    labelled: Tensor
    predicted: Tensor


@torch.no_grad()
def deviations(head: HeadModel, predicted: FaceParameters, labels: Tensor, person: Tensor) -> Deviations:
    """What labels and predictions say of each photo beside its person's others.

    Args:
        predicted: of N photos, on the CPU like the head.  labels: [N, 68, 2] crop NDC.  person: [N] small numbers, who
            is on each; photos of people with fewer than LEAST_PHOTOS within MOST_YAW are left out.
    """
    yaw = Camera.from_vector(predicted.camera).angles()[:, 0]
    seen = yaw.abs() <= MOST_YAW
    seen &= torch.bincount(person[seen], minlength=int(person.max()) + 1)[person] >= LEAST_PHOTOS
    rows = seen.nonzero()[:, 0]
    if not len(rows):
        nothing = torch.zeros(0, len(DISTANCES))
        return Deviations(rows, person[rows], nothing, nothing)
    p, who = predicted[rows], person[rows]
    moving = p.replace(shape=torch.zeros_like(p.shape))
    still = moving.replace(expression=torch.zeros_like(p.expression), jaw=torch.zeros_like(p.jaw))
    rest = distances(projected_landmarks(head, still))
    labelled, moved = distances(labels[rows]) - rest, distances(projected_landmarks(head, moving)) - rest
    return Deviations(rows, who, labelled - person_means(labelled, who), moved - person_means(moved, who))


def person_means(values: Tensor, person: Tensor) -> Tensor:
    """[N, K] values, each replaced by the mean over that person's rows. person: [N] small numbers."""
    count = torch.bincount(person)
    sums = torch.zeros(len(count), values.shape[1]).index_add_(0, person, values)
    return (sums / count.clamp_min(1)[:, None])[person]


def movement(
    head: HeadModel, predicted: FaceParameters, labels: Tensor, people: list[str], intervals: bool = True
) -> dict[str, Measured]:
    """`NAME slope` and `NAME correlation` of predicted on labelled deviations, and their means over all distances.

    1 is right for both; errors of the labels make either smaller. Empty where no photo can be measured.

    Args:
        labels: [N, 68, 2] crop NDC.  people: who is on each photo.
    """
    person = torch.from_numpy(np.unique(np.asarray(people), return_inverse=True)[1])
    found = deviations(head, predicted, labels, person)
    if not len(found.rows):
        return {}
    labelled, moved = found.labelled.double().numpy(), found.predicted.double().numpy()

    def figures(chosen: np.ndarray) -> dict[str, float]:
        x, y = labelled[chosen], moved[chosen]
        along = (x * y).sum(0)
        slopes = along / np.maximum((x**2).sum(0), 1e-12)
        correlations = along / np.maximum(np.sqrt((x**2).sum(0) * (y**2).sum(0)), 1e-12)
        result = {"movement slope": float(slopes.mean()), "movement correlation": float(correlations.mean())}
        for name, slope, correlation in zip(DISTANCES, slopes, correlations, strict=True):
            result |= {f"{name} slope": float(slope), f"{name} correlation": float(correlation)}
        return result

    return measured_over_people(found.person.numpy(), figures, **({} if intervals else {"rounds": 0}))
