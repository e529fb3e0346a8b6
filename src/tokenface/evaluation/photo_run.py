"""End-to-end evaluation on real photos and rendered people, for any prediction function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenface.data.held_out import Split
from tokenface.data.photos import PhotoConfig, SquareCrop
from tokenface.data.readers.landmark_tar import read_landmark_tar
from tokenface.data.record import PhotoRecord, split_by_identity
from tokenface.errors import EvaluationError
from tokenface.evaluation.landmarks import TEST_CROP_SCALE, evaluation_crops
from tokenface.evaluation.photo_movement import movement
from tokenface.evaluation.photo_statistics import photo_figures, predict_all
from tokenface.evaluation.rendered_measures import HELD_OUT_SEED, rendered_figures, rendered_people
from tokenface.evaluation.warp_response import (
    ACTIONS,
    Predict,
    ResponseTable,
    Spread,
    action_response,
    mirrored,
    shape_response,
)
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters


@dataclass(frozen=True)
class PhotoCounts:
    """Sample sizes. photos: for statistics and changes of identity.  action_photos: for each action.
    rendered, plain: rendered people."""

    photos: int = 256
    action_photos: int = 96
    rendered: int = 512
    plain: int = 256

    @staticmethod
    def quick() -> PhotoCounts:
        return PhotoCounts(photos=96, action_photos=16, rendered=128, plain=64)


@dataclass(frozen=True)
class PhotoSet:
    """Photos of people that training holds out, twice: as labelled, and without the labels' known displacement.

    Crops are cut by the labels of the second.
    """

    records: list[PhotoRecord]
    raw: list[PhotoRecord]

    @property
    def people(self) -> list[str]:
        return [record.identity for record in self.records]


def held_out_photos(tar: Path, count: int, seed: int = 0, split: Split | None = None) -> PhotoSet:
    """Photos of held-out people, drawn by the seed.

    Args:
        split: who is held out (`trained_split` of the weights); None: as the default configuration.

    Raises:
        EvaluationError: too few people to hold any out, or a file that cannot be read.
    """
    config = PhotoConfig()
    split = split or config.split()
    try:
        held = [split_by_identity(list(read_landmark_tar(tar, shift)), split)[1] for shift in (config.shift, None)]
    except ValueError as error:
        raise EvaluationError(f"'{tar}': {error}") from error
    chosen = sorted(np.random.default_rng(seed).permutation(len(held[0]))[:count])
    return PhotoSet(*([records[i] for i in chosen] for records in held))


def measure_photos(
    predict: Predict,
    head: HeadModel,
    size: int,
    photos: PhotoSet | None,
    counts: PhotoCounts | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The document of `tokenface evaluate photos`: every figure is [value, low, high] with its 95 % interval.

    Args:
        predict: crops [B, 3, size, size] → parameters, on the CPU.  photos: None leaves the sections on photos out.
    """
    counts = counts or PhotoCounts()
    document: dict[str, Any] = {"seeds": {"rendered people": HELD_OUT_SEED, "photos": 0, "resampling": 0}}
    say("rendered people")
    document["rendered"] = {}
    truth: FaceParameters | None = None
    for name, count in (("all", counts.rendered), ("plain", counts.plain)):
        batch = rendered_people(head, -(-size // 8) * 8, count, HELD_OUT_SEED, plain=name == "plain")
        image = batch.image
        if image.shape[-1] != size:
            image = torch.nn.functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
        figures, actions, leaks = rendered_figures(head, predict_all(predict, image), batch.parameters)
        document["rendered"][name] = {
            "people": count, "figures": figures, "actions": actions, "leakage": np.round(leaks, 4).tolist()
        }  # fmt: skip
        truth = truth or batch.parameters
    document["actions"] = list(head.expression_names)
    if photos is not None:
        assert truth is not None
        document["photos"] = _on_photos(predict, head, size, photos, counts, Spread.of(truth), say)
    return document


@torch.no_grad()
def _on_photos(
    predict: Predict, head: HeadModel, size: int, photos: PhotoSet, counts: PhotoCounts, spread: Spread,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    say("photos")
    images, shifted = evaluation_crops(photos.records, size)
    raw = _in_crops_of(photos)
    before = predict_all(predict, images)
    figures, baseline = photo_figures(head, before, photos.people, shifted, raw)
    document: dict[str, Any] = {
        "photos": len(images),
        "people": len(set(photos.people)),
        "figures": figures,
        "baseline": baseline,
        "movement": movement(head, before, shifted, photos.people),
    }
    say("changes of identity")
    table, responses = ResponseTable(head, spread), {}
    responses["shape"] = table.row(shape_response(predict, head, images, before, photos.people))
    rows = torch.from_numpy(np.random.default_rng(1).permutation(len(images))[: counts.action_photos])
    people = [photos.people[i] for i in rows.tolist()]
    for action in (a for a in ACTIONS if {a, mirrored(a)} <= set(head.expression_names)):
        say(f"changes of {action}")
        response = action_response(predict, head, images[rows], before[rows], people, action)
        responses[action.removesuffix("Left") if action != "mouthLeft" else action] = table.row(response)
    document["responses"] = responses
    document["action photos"] = len(rows)
    return document


def _in_crops_of(photos: PhotoSet) -> torch.Tensor:
    """[N, 68, 2] the raw labels in the crops that the others cut."""
    points = []
    for record, labelled in zip(photos.records, photos.raw, strict=True):
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        crop = SquareCrop((low + high) / 2, float((high - low).mean()) * TEST_CROP_SCALE, 0.0, False, 64)
        points.append(crop.points(labelled.landmarks))
    return torch.from_numpy(np.stack(points))
