"""Statistics of predictions on many photos of many people: landmark error, label bias, identity variance, spread.

Annotators' points are not the mesh's points. Their difference is modelled as an offset of each point in the upright
face, linear in the sine of the yaw and mirror-symmetric, and learned on other people's photos from the predictions
under test, so that it does not favour a network that has learned the bias over one that has not (label adaptation of
Wood et al. 2021, as a measure).

Most faces do little at a time, so each expression weight is near 0 on most photos; the mean of many people's shapes is
near the population's mean; one person's photos give one shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tokenface.data.record import PhotoRecord
from tokenface.errors import EvaluationError
from tokenface.evaluation.face_space import FaceSpace
from tokenface.evaluation.landmarks import evaluation_crops, normalised_mean_error
from tokenface.evaluation.statistics import Measured, measured_over_people
from tokenface.geometry.camera import Camera
from tokenface.geometry.landmarks import MIRROR68
from tokenface.head.arkit import ARKIT_NAMES, to_arkit
from tokenface.head.model import HeadModel
from tokenface.inference.expressions import speaks_arkit
from tokenface.losses.vertex_weights import mode_importance
from tokenface.parameters import FaceParameters

FOLDS = 2


def without_label_bias(
    predicted: Tensor, truth: Tensor, yaw: Tensor, roll: Tensor, people: Sequence[str], seed: int = 0
) -> Tensor:
    """Predictions [N, 68, 2] moved to where these annotators would have put the points.

    Args:
        predicted, truth: crop NDC.  yaw, roll: [N] radians of the predicted camera.  people: [N]; a photo's offset is
            learned on the other fold's people.
    """
    residual, turn, size = _upright(predicted, truth, roll)
    names, person = np.unique(np.asarray(people), return_inverse=True)
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(names))[person] % FOLDS)
    offset = torch.zeros_like(residual)
    for k in range(FOLDS):
        own = fold == k
        offset[own] = _at(fit_label_bias(residual[~own], yaw[~own]), yaw[own])
    return predicted + size[:, None, None] * (offset @ turn)


def fit_label_bias(residual: Tensor, yaw: Tensor) -> Tensor:
    """Least squares for `a + b sin(yaw)` of each point, with the mirrored photos as well.

    Args:
        residual: [N, 68, 2] truth minus prediction in the upright face, shares of the face's size.
    Returns:
        [2, 68, 2]: a and b, mirror-symmetric.
    """
    mirrored = residual[:, list(MIRROR68)] * residual.new_tensor([-1.0, 1.0])
    both = torch.cat([residual, mirrored])
    design = torch.stack([torch.ones(len(both)), torch.cat([yaw, -yaw]).sin()], dim=1).to(both)
    return torch.linalg.lstsq(design, both.flatten(1)).solution.view(2, 68, 2)


def _at(bias: Tensor, yaw: Tensor) -> Tensor:
    return bias[0] + bias[1] * yaw.sin()[:, None, None].to(bias)


def _upright(predicted: Tensor, truth: Tensor, roll: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals with the head's roll undone over the size of the labels' box; the turn [N, 2, 2] that carries row
    vectors back; the sizes [N]."""
    cos, sin = roll.cos(), roll.sin()
    # roll is anticlockwise as seen, and crop NDC has y down: upright (x, y) stands on the picture at turn · (x, y)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    size = (truth.amax(1) - truth.amin(1)).prod(-1).sqrt()
    return (truth - predicted) @ turn.transpose(1, 2) / size[:, None, None], turn, size


QUARTILE = 25
SHOWN_ACTIONS = 12
"""Of the table of expression baselines."""


def action_weights(head: HeadModel, parameters: FaceParameters) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and [N, A] weights as files carry them: ARKit's actions with the jaw's, or the head model's own."""
    if speaks_arkit(head):
        kept = [i for i, name in enumerate(ARKIT_NAMES) if name != "tongueOut"]
        weights = to_arkit(head, parameters.expression, parameters.jaw)[:, kept].numpy()
        return tuple(ARKIT_NAMES[i] for i in kept), weights
    return tuple(head.expression_names), head.clamp_expression(parameters.expression).numpy()


def expression_baseline(weights: np.ndarray) -> np.ndarray:
    """[N, A] → [A] 25th percentile of each weight's size: what three photos of four exceed. Right is 0."""
    return np.percentile(np.abs(weights), QUARTILE, axis=0)


def mean_prediction(space: FaceSpace, shapes: np.ndarray) -> dict[str, float]:
    """Offset of the mean predicted neutral head of [N, S] from the mean head, and spread of the predictions.

    Millimetres, root mean square over the face, similarity removed; the ratios are to the population's spread.
    """
    mean = shapes.mean(0, keepdims=True)
    apart = float(space.rms(mean)[0])
    spread = float(np.sqrt((space.rms(shapes - mean) ** 2).mean()))
    return {
        "mean prediction mm": apart,
        "mean prediction / people": apart / space.spread,
        "spread mm": spread,
        "spread / people": spread / space.spread,
    }


def shape_variance_ratio(shapes: np.ndarray, people: Sequence | np.ndarray) -> float:
    """Variance of shapes [N, S] among a person's photos over the variance of people's true means; NaN below two people.

    Shapes are already in the metric that counts. The variance of the means is corrected for what a person's photos
    scatter; infinite where nothing is left of it.
    """
    names, person = np.unique(np.asarray(people), return_inverse=True)
    count = np.bincount(person)
    several = count > 1
    if several.sum() < 2:
        return float("nan")
    means = np.zeros((len(names), shapes.shape[1]))
    np.add.at(means, person, shapes)
    means /= count[:, None]
    kept = several[person]
    within = float(((shapes - means[person])[kept] ** 2).sum() / (count[several] - 1).sum())
    noise = within * float((1 / count[several]).mean())
    own = means[several]
    between = float(((own - own.mean(0)) ** 2).sum()) / (len(own) - 1) - noise
    return within / between if between > 0 else float("inf")


def landmark_errors(
    points: Tensor, raw: Tensor, shifted: Tensor, angles: Tensor, people: Sequence[str]
) -> dict[str, np.ndarray]:
    """Per-photo error of the 68 points, per cent of √box, by what is taken out of the labels.

    Args:
        points: [N, 68, 2] predicted.  raw, shifted: labels as published, and without the known displacement of the
            whole set.  angles: [N, 3] yaw, pitch, roll of the predicted camera.
    """
    yaw, roll = angles[:, 0], angles[:, 2]
    moved = without_label_bias(points, shifted, yaw, roll, people)
    pairs = {"raw": (points, raw), "shift removed": (points, shifted), "bias removed": (moved, shifted)}
    return {name: 100 * normalised_mean_error(p, t).double().numpy() for name, (p, t) in pairs.items()}


def as_displacements(space: FaceSpace, shapes: Tensor) -> np.ndarray:
    """[N, S] coefficients whose Euclidean distance is `FaceSpace`'s (its matrix square root), metres."""
    values, vectors = np.linalg.eigh(space.gram)
    return shapes.double().numpy() @ (vectors * np.sqrt(np.maximum(values, 0)))


@torch.no_grad()
def predict_all(predict, images: Tensor, batch: int = 32) -> FaceParameters:
    """Predictions of [N, 3, S, S], a few at a time."""
    return FaceParameters.cat([predict(chunk) for chunk in images.split(batch)])


def photo_figures(
    head: HeadModel,
    predicted: FaceParameters,
    people: list[str],
    shifted: Tensor,
    raw: Tensor,
    intervals: bool = True,
) -> tuple[dict[str, Measured], dict[str, float]]:
    """Baseline, mean prediction, within over between and the three landmark errors; the largest baselines by action.

    Args:
        shifted, raw: [N, 68, 2] labels in crop NDC without and with their known displacement.
        intervals: False leaves the resampling out (curves of a run).
    """
    space = FaceSpace(head)
    names, weights = action_weights(head, predicted)
    shapes = predicted.shape.double().numpy()
    displacements = as_displacements(space, predicted.shape)
    angles = Camera.from_vector(predicted.camera).angles()
    errors = landmark_errors(projected_landmarks(head, predicted), raw, shifted, angles, people)
    who = np.unique(np.asarray(people), return_inverse=True)[1]

    def figures(rows: np.ndarray) -> dict[str, float]:
        return {
            "expression baseline": float(expression_baseline(weights[rows]).sum()),
            **mean_prediction(space, shapes[rows]),
            "within / between": shape_variance_ratio(displacements[rows], _apart(who[rows], rows)),
            **{f"68 points {name} %": float(error[rows].mean()) for name, error in errors.items()},
        }

    measured = measured_over_people(people, figures, **({} if intervals else {"rounds": 0}))
    single = expression_baseline(weights)
    largest = np.argsort(-single)[:SHOWN_ACTIONS]
    return measured, {names[i]: float(single[i]) for i in largest}


def _apart(who: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """People that were drawn twice as two people: the n-th copy of a row belongs to the n-th copy of its person."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.searchsorted(ordered, ordered)
    copy = np.empty(len(rows), np.int64)
    copy[order] = np.arange(len(rows)) - first
    return who * (copy.max() + 1) + copy


@torch.no_grad()
def projected_landmarks(head: HeadModel, p: FaceParameters, block: int = 64) -> Tensor:
    """[N, 68, 2] where predictions put the points, crop NDC."""
    parts = []
    for i in range(0, len(p), block):
        rows = slice(i, i + block)
        own = Camera.from_vector(p.camera[rows])
        vertices = head(p.shape[rows], head.clamp_expression(p.expression[rows]), p.jaw[rows]).vertices
        parts.append(own.project(head.landmarks68(vertices, own.angles()[:, 0]))[..., :2])
    return torch.cat(parts)


BATCH = 64


@torch.inference_mode()
def within_over_between(
    predict: Callable[[Tensor], FaceParameters], head: HeadModel, records: list[PhotoRecord], size: int
) -> dict[str, float]:
    """Variance of the predicted shapes among the photos of a person, over the variance of people's true means.

    Shapes are measured by what they move (Eq. 3's weights, squared). The variance of the means is corrected for what
    the photos of a person scatter; 0 is an identity that never changes, and above 1 a photo says more than the person.

    Args:
        predict: crops [B, 3, S, S] → parameters.  records: of at least two people with two photos each.
    Raises:
        EvaluationError: too few people or photos.
    """
    people: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        people[record.identity].append(index)
    groups = [rows for rows in people.values() if len(rows) > 1]
    if len(groups) < 2:
        raise EvaluationError("identity over photos needs two people with two photos each")
    crops = [evaluation_crops(records[i : i + BATCH], size)[0] for i in range(0, len(records), BATCH)]
    shapes = torch.cat([predict(images).shape for images in crops]) * mode_importance(head)
    ratio = shape_variance_ratio(shapes.double().numpy(), [record.identity for record in records])
    return {"photos": sum(len(rows) for rows in groups), "people": len(groups), "within / between": ratio}
