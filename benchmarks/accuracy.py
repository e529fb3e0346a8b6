"""Accuracy of some weights: held-out photos' landmarks and identity, held-out rendered people's neutral shape.

    python benchmarks/accuracy.py [--weights NAME_OR_PATH] [--photos photos.tar] [--ict ict_facekit.npz] [--people 100]

Rendered people come from seeds that training never uses; every figure is also a ratio to the mean head.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from tokenface.data.photos import PhotoConfig, photo_records
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, compare_with_mean_head, predict_neutral
from tokenface.evaluation.photo_set import photo_rows
from tokenface.evaluation.photo_statistics import within_over_between
from tokenface.head.ict import load_ict
from tokenface.head.model import HeadModel
from tokenface.head.transfer import dress
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.network.tokenface import TokenFace
from tokenface.weights import find_weights

TEST_SEED = 20_251_122
"""Of the rendered people; training seeds are mixed from small numbers, validation has another one."""


def geometry_row(
    model: TokenFace, head: HeadModel, people_head: HeadModel, people: int, seed: int = TEST_SEED
) -> dict[str, float]:
    """Neutral shape of rendered people of `people_head`, one picture each, as OpenHead meshes against the truth."""
    batch = SyntheticFaces(people_head, model.config.image_size).sample(people, seed=seed)
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
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    path = find_weights(arguments.weights)
    model, head, facts = load_checkpoint(path)
    report = {
        "images seen": images_seen(facts.get("training", {})),
        "OpenHead people": geometry_row(model, head, head, arguments.people, arguments.seed),
    }
    if arguments.ict:
        ict = HeadModel(dress(load_ict([arguments.ict]), head.data))
        report["ICT-FaceKit people"] = geometry_row(model, head, ict, arguments.people, arguments.seed)
    if arguments.photos:
        size = model.config.image_size
        report["photos, NME in % of √box"] = photo_rows({"network": (model, head, size)}, arguments.photos)
        held_out = photo_records(PhotoConfig(tar=str(arguments.photos)))[1]
        report["one person's photos"] = within_over_between(model, head, held_out, size)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
