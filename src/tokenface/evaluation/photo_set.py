"""Held-out photos with annotated landmarks: error of the 68 points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.data.held_out import Split
from tokenface.data.photos import crop_labelled
from tokenface.data.record import PhotoRecord
from tokenface.evaluation.landmarks import (
    TEST_CROP_SCALE,
    evaluation_crops,
    landmarks_with_best_camera,
    normalised_mean_error,
    predict_landmarks,
)
from tokenface.evaluation.photo_run import held_out_photos
from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68
from tokenface.head.model import HeadModel
from tokenface.images import FaceDetector
from tokenface.parameters import FaceParameters

MAX_PHOTOS = 300
MESH = "468-point mesh mapped to 68"
MEAN_HEAD = "mean head, best camera"

Predict = Callable[[Tensor], FaceParameters]
"""Crops [B, 3, S, S] → parameters, on the CPU."""


def photo_rows(
    networks: Mapping[str, tuple[Predict, HeadModel, int]],
    tar: Path,
    limit: int = MAX_PHOTOS,
    split: Split | None = None,
) -> dict[str, dict[str, float]]:
    """Method → figures in per cent of √box area, on crops of held-out people.

    "raw": the annotations as published; "shifted": without the known displacement of the annotations
    (`PhotoConfig.shift`); each over all 68 points and over the inner 51, without the jaw line.

    Args:
        networks: name → predict, head model, crop size.  tar: picture and JSON pairs (`landmark_tar`).
        split: who is held out; None: as the default configuration.
    Raises:
        EvaluationError: too few people to hold any out, or a file that cannot be read.
    """
    photos = held_out_photos(tar, limit, split=split)
    rows: dict[str, dict[str, float]] = {}
    for label, chosen in (("raw", photos.raw), ("shifted", photos.records)):
        truth = torch.empty(0)
        for name, (predict, head, size) in networks.items():
            images, truth = evaluation_crops(chosen, size)
            _add(rows, name, label, predict_landmarks(predict, head, images), truth)
        head = next(iter(networks.values()))[1]
        mean_head = landmarks_with_best_camera(head, head.template[None].expand(len(truth), -1, -1), truth)
        _add(rows, MEAN_HEAD, label, mean_head, truth)
        found, points = _mesh_points(chosen)
        _add(rows, MESH, label, points, truth[found])
    return rows


def _add(rows: dict[str, dict[str, float]], name: str, label: str, points: Tensor, truth: Tensor) -> None:
    row = rows.setdefault(name, {"photos": len(truth)})
    row[f"{label}, all 68"] = 100 * float(normalised_mean_error(points, truth).mean())
    row[f"{label}, inner 51"] = 100 * float(_inner_error(points, truth).mean())


def _inner_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """The 51 points without the jaw line, over the same √box area of all 68."""
    box = truth.amax(1) - truth.amin(1)
    return (predicted - truth).norm(dim=-1)[:, 17:].mean(-1) / box.prod(-1).sqrt()


def _mesh_points(records: list[PhotoRecord]) -> tuple[list[int], Tensor]:
    """The face mesh's own 68 points in crop NDC, for the photos where it finds a face."""
    detector, found, points = FaceDetector(), [], []
    for index, record in enumerate(records):
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        side, centre = float((high - low).mean()) * TEST_CROP_SCALE, (low + high) / 2
        meshes = [d.landmarks468 for d in detector.detect(record.image) if d.landmarks468 is not None]
        if meshes:
            nearest = min(meshes, key=lambda mesh: float(np.linalg.norm(mesh[:, :2].mean(0) - centre)))
            mapped = nearest[list(MEDIAPIPE_TO_IBUG68), :2].astype(np.float32)
            moved = PhotoRecord(record.image, mapped, record.identity, record.source)
            points.append(crop_labelled(moved, centre, side, 0.0, False, 64)[1])
            found.append(index)
    return found, torch.from_numpy(np.stack(points)) if points else torch.empty(0, 68, 2)
