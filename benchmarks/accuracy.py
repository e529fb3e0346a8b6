"""Accuracy of some weights: held-out photos' landmarks, held-out rendered people's neutral shape.

    python benchmarks/accuracy.py [--weights NAME_OR_PATH] [--photos photos.tar] [--ict ict_facekit.npz] [--people 100]

Rendered people come from seeds that training never uses; every figure is also a ratio to the mean head.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from tokenface.data.photos import crop_labelled
from tokenface.data.readers.landmark_tar import read_landmark_tar
from tokenface.data.record import PhotoRecord, split_by_identity
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.best_camera import landmarks_with_best_camera
from tokenface.evaluation.geometry import PeopleScans, compare_with_mean_head, predict_neutral
from tokenface.evaluation.landmarks import (
    TEST_CROP_SCALE,
    evaluation_crops,
    normalised_mean_error,
    predict_landmarks,
)
from tokenface.head.ict import load_ict
from tokenface.head.landmarks import MEDIAPIPE_TO_IBUG68
from tokenface.head.model import HeadModel
from tokenface.head.transfer import dress
from tokenface.images import FaceDetector
from tokenface.network.checkpoint import load_checkpoint
from tokenface.network.tokenface import TokenFace
from tokenface.training.config import PhotoConfig
from tokenface.weights import find_weights

TEST_SEED = 20_251_122
"""Of the rendered people; training seeds are mixed from small numbers, validation has another one."""
MAX_PHOTOS = 300


def photo_rows(model: TokenFace, head: HeadModel, tar: Path) -> dict[str, dict[str, float]]:
    """Per cent of √box area on 300 crops of people kept out; 'shifted': without the annotations' known shift."""
    config = PhotoConfig()
    size = model.config.image_size
    rows: dict[str, dict[str, float]] = {}
    for label, shift in (("raw", None), ("shifted", config.shift)):
        held = split_by_identity(list(read_landmark_tar(tar, shift)), config.held_out_people, config.split_seed)[1]
        chosen = [held[i] for i in sorted(np.random.default_rng(0).permutation(len(held))[:MAX_PHOTOS])]
        images, truth = evaluation_crops(chosen, size)
        mean_head = head.template[None].expand(len(truth), -1, -1)
        answers = {
            "network": predict_landmarks(model, head, images),
            "mean head, best camera": landmarks_with_best_camera(head, mean_head, truth),
        }
        for name, points in answers.items():
            row = rows.setdefault(name, {"photos": len(truth)})
            row[f"{label}, all 68"] = 100 * float(normalised_mean_error(points, truth).mean())
            row[f"{label}, inner 51"] = 100 * float(inner_error(points, truth).mean())
        found, points = mesh_points(chosen)
        row = rows.setdefault("468-point mesh mapped to 68", {"photos": len(found)})
        row[f"{label}, all 68"] = 100 * float(normalised_mean_error(points, truth[found]).mean())
        row[f"{label}, inner 51"] = 100 * float(inner_error(points, truth[found]).mean())
    return rows


def inner_error(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The 51 points without the jaw line, over the same √box area of all 68."""
    box = truth.amax(1) - truth.amin(1)
    return (predicted - truth).norm(dim=-1)[:, 17:].mean(-1) / box.prod(-1).sqrt()


def mesh_points(records: list[PhotoRecord]) -> tuple[list[int], torch.Tensor]:
    """The face mesh's own 68 points in crop NDC, for the photos where it finds a face."""
    detector, found, points = FaceDetector(), [], []
    for index, record in enumerate(records):
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        side, centre = float((high - low).mean()) * TEST_CROP_SCALE, (low + high) / 2
        detections = [d for d in detector.detect(record.image) if d.landmarks468 is not None]
        if detections:
            nearest = min(detections, key=lambda d: float(np.linalg.norm(np.mean(d.landmarks468[:, :2], 0) - centre)))
            mesh = np.asarray(nearest.landmarks468)[list(MEDIAPIPE_TO_IBUG68), :2]
            moved = PhotoRecord(record.image, mesh.astype(np.float32), record.identity, record.source)
            points.append(crop_labelled(moved, centre, side, 0.0, False, 64)[1])
            found.append(index)
    return found, torch.from_numpy(np.stack(points))


def geometry_row(model: TokenFace, head: HeadModel, people_head: HeadModel, people: int) -> dict[str, float]:
    """Neutral shape of rendered people of `people_head`, one picture each, as OpenHead meshes against the truth."""
    batch = SyntheticFaces(people_head, model.config.image_size).sample(people, seed=TEST_SEED)
    predicted = predict_neutral(model, head, batch.image).numpy()
    result = compare_with_mean_head(PeopleScans.of(people_head, batch.neutral), predicted, head)
    shape = model(batch.image).shape if people_head is head else torch.zeros(0)
    row = {"people": people, "error mm": result.error, "mean head mm": result.mean_head_error, "ratio": result.ratio}
    if people_head is head:
        row["β rms predicted"] = float(shape.square().mean().sqrt())
    return row


def images_seen(training: dict) -> int:
    """Of a checkpoint and of the weights it started from."""
    before = training.get("before")
    return int(training.get("images", 0)) + (images_seen(before) if before else 0)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--ict", type=Path)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    model, head, facts = load_checkpoint(find_weights(arguments.weights))
    report = {
        "images seen": images_seen(facts.get("training", {})),
        "OpenHead people": geometry_row(model, head, head, arguments.people),
    }
    if arguments.ict:
        ict = HeadModel(dress(load_ict([arguments.ict]), head.data))
        report["ICT-FaceKit people"] = geometry_row(model, head, ict, arguments.people)
    if arguments.photos:
        report["photos, NME in % of √box"] = photo_rows(model, head, arguments.photos)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
