"""The open benchmark's figures: errors by condition and group, disentanglement, calibration, ranks; and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tokenface.evaluation.geometry import PeopleScans, face_error
from tokenface.evaluation.landmarks import normalised_mean_error
from tokenface.evaluation.open_methods import Predictions
from tokenface.evaluation.openbench import OpenSet
from tokenface.evaluation.people import SKIN_GROUPS, People
from tokenface.evaluation.statistics import RIGHT, expected_calibration_error, people_interval
from tokenface.head.model import HeadModel
from tokenface.render.renderer import Renderer

ROOT_SIZE = 160
"""Pixels at which the photometric error is drawn."""
POSE_GROUPS = (("yaw 0–15°", 0, 15), ("yaw 15–45°", 15, 45), ("yaw 45–90°", 45, 91))
LIGHT_GROUPS = (("dark", 0.0, 0.3), ("medium", 0.3, 0.5), ("bright", 0.5, 2.0))


@dataclass(frozen=True)
class PictureErrors:
    """A method's errors on the N pictures of a condition. neutral, posed: mm.  nme: per cent.  photo: grey levels,
    or NaN for methods without colours."""

    neutral: np.ndarray
    posed: np.ndarray
    nme: np.ndarray
    photo: np.ndarray
    found: np.ndarray


def picture_errors(
    pictures: OpenSet, people_head: HeadModel, predictions: Predictions, head: HeadModel
) -> PictureErrors:
    """Args: people_head: of the truth.  head: of the predictions."""
    neutral = face_error(PeopleScans.of(people_head, pictures.neutral), predictions.neutral, head)
    posed = face_error(PeopleScans.of(people_head, pictures.posed), predictions.posed, head)
    nme = 100 * normalised_mean_error(torch.from_numpy(predictions.points), pictures.points).numpy()
    return PictureErrors(neutral, posed, nme, photometric(pictures, predictions, head), predictions.found)


@torch.no_grad()
def photometric(pictures: OpenSet, predictions: Predictions, head: HeadModel) -> np.ndarray:
    """[N] mean absolute difference between rendering and picture where both show skin, grey levels of 255."""
    if predictions.parameters is None or head.data.albedo_basis is None:
        return np.full(len(pictures.image), np.nan)
    renderer = Renderer(head)
    size = (ROOT_SIZE, ROOT_SIZE)
    images = torch.nn.functional.interpolate(pictures.image, size=size, mode="area")
    masks = torch.nn.functional.interpolate(pictures.mask[:, None], size=size, mode="area")[:, 0]
    errors = []
    for index in range(len(images)):
        row = predictions.parameters.__class__(
            **{name: value[index : index + 1] for name, value in predictions.parameters.items()}
        )
        drawn = renderer.render(row, ROOT_SIZE)
        mask = masks[index] * drawn.mask[0]
        gap = (drawn.image[0].clamp(0, 1) - images[index]).abs().mean(0)
        errors.append(255 * float((gap * mask).sum() / mask.sum().clamp(min=1)))
    return np.array(errors)


def disentanglement(sets: Sequence[OpenSet], predictions: Sequence[Predictions], head: HeadModel) -> dict[str, float]:
    """Disentanglement, mm: change of the head across pictures, change of the expression across people.

    identity within: how far a person's neutral heads lie from their mean over the conditions; between: how far people's
    mean heads lie from everybody's; expression within and between: the same for the displacement from neutral to
    posed, over people who make one expression and over expressions. A ratio of 0 is perfect; 1 cannot tell.
    """
    region = face_vertices(head)
    if any(len(prediction.neutral) == 1 for prediction in predictions):
        return {}
    heads = np.stack(
        [prediction.neutral[:, region] for prediction in predictions], axis=1
    )  # [people, conditions, V, 3]
    figures = _spread(heads, "identity")
    for pictures, prediction in zip(sets, predictions, strict=True):
        if pictures.condition.expressive:
            offsets = (prediction.posed - prediction.neutral)[:, region]
            which = pictures.expression_of.numpy()
            complete = len(which) // len(np.unique(which)) * len(np.unique(which))
            grouped = [offsets[:complete][which[:complete] == e] for e in np.unique(which)]
            if complete >= 2 * len(grouped):
                figures |= _spread(np.stack(grouped), "expression")
    return figures


def _spread(values: np.ndarray, name: str) -> dict[str, float]:
    """values: [groups, members, V, 3], metres."""
    means = values.mean(1, keepdims=True)
    within = 1000 * float(np.sqrt(((values - means) ** 2).sum(-1).mean()))
    between = 1000 * float(np.sqrt(((means - means.mean(0, keepdims=True)) ** 2).sum(-1).mean()))
    ratio = within / between if between > 0 else float("nan")
    return {f"{name} within": within, f"{name} between": between, f"{name} ratio": ratio}


def face_vertices(head: HeadModel) -> np.ndarray:
    """Numbers of the vertices of the named region 'face', or of all."""
    region = head.data.regions.get("face")
    return np.arange(head.vertex_count) if region is None else np.asarray(region, dtype=np.int64)


def calibration(
    confidence: np.ndarray, expected: np.ndarray, error: np.ndarray, nme: np.ndarray, bins: int = 4
) -> dict[str, float]:
    """Calibration of a method's confidence.

    Args:
        confidence: [N] stated probability that a prediction is right.  expected: [N] stated error of the neutral
            face, NaN where none is.  error: [N] mm of the neutral face.  nme: [N] per cent, which makes a prediction
            right or not.
    Returns:
        the confidence's calibration error; Spearman's rank correlation of confidence (−1 is perfect) and of the
        expected error (1 is) with the error; the mean error of each quarter, the least confident first.
    """
    from scipy.stats import spearmanr

    if len(confidence) < bins or np.ptp(confidence) == 0:
        return {}
    figures = {
        "right": float((nme < 100 * RIGHT).mean()),
        "expected calibration error": expected_calibration_error(confidence, nme < 100 * RIGHT),
        "spearman": float(spearmanr(confidence, error).statistic),
    }
    stated = np.isfinite(expected)
    if stated.sum() >= bins:
        figures["spearman of the expected error"] = float(spearmanr(expected[stated], error[stated]).statistic)
    parts = np.array_split(error[np.argsort(confidence, kind="stable")], bins)
    return {**figures, **{f"quarter {k + 1}": float(part.mean()) for k, part in enumerate(parts)}}


def groups(
    sets: Sequence[OpenSet], errors: Sequence[PictureErrors], people: People
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean neutral error by pose, light, skin tone, and by the people's groups (ancestry, gender, age) where they are
    known; and the largest ratio between groups of each kind."""
    neutral = np.concatenate([error.neutral for error in errors])
    yaw = np.abs(np.concatenate([s.yaw.numpy() for s in sets]))
    light = np.concatenate([s.light.numpy() for s in sets])
    table: dict[str, dict[str, dict[str, float]]] = {
        "pose": _by_range(neutral, yaw, POSE_GROUPS),
        "light": _by_range(neutral, light, LIGHT_GROUPS),
    }
    skin = people.skin.numpy()
    if np.isfinite(skin).all():
        table["skin tone"] = _by_range(neutral, np.tile(skin, len(sets)), SKIN_GROUPS)
    for kind, names in people.groups.items():
        own = np.tile(np.array(names), len(sets))
        table[kind] = _with_ratio({name: neutral[own == name] for name in dict.fromkeys(names)})
    return table


def _by_range(values: np.ndarray, keys: np.ndarray, ranges: Sequence[tuple[str, float, float]]) -> dict:
    return _with_ratio({name: values[(keys >= low) & (keys < high)] for name, low, high in ranges})


def _with_ratio(parts: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean and count of each group that has pictures, and the largest ratio of two means."""
    rows = {name: {"mean": float(part.mean()), "pictures": len(part)} for name, part in parts.items() if len(part)}
    means = [row["mean"] for row in rows.values()]
    if len(means) > 1:
        rows["largest ratio"] = {"mean": max(means) / min(means)}
    return rows


def paired(errors: Mapping[str, np.ndarray], people: Sequence[str]) -> list[dict[str, object]]:
    """Methods by mean error, best first, each with its difference to the best and the 95 % interval of that
    difference over people; methods whose interval holds 0 share the better rank.

    Args:
        errors: method → [M] neutral errors on the same pictures.  people: [M] who is on each.
    """
    order = sorted(errors, key=lambda name: float(errors[name].mean()))
    rows: list[dict[str, object]] = []
    rank = 0
    for place, name in enumerate(order):
        difference = errors[name] - errors[order[0]]
        low, high = people_interval(difference, people)
        better = errors[name] - errors[order[place - 1]] if place else np.zeros(1)
        apart = place > 0 and people_interval(better, people)[0] > 0
        rank = place + 1 if apart or place == 0 else rank
        rows.append({
            "method": name, "rank": rank, "mean mm": float(errors[name].mean()),
            "behind best mm": float(difference.mean()), "low": low, "high": high,
        })  # fmt: skip
    return rows


@dataclass
class OpenReport:
    """document: everything as JSON.  sets, predictions, errors, heads: of the OpenHead people, for pictures."""

    document: dict[str, Any]
    sets: list[OpenSet] = field(default_factory=list)
    predictions: dict[str, list[Predictions]] = field(default_factory=dict)
    errors: dict[str, list[PictureErrors]] = field(default_factory=dict)
    heads: dict[str, HeadModel] = field(default_factory=dict)
