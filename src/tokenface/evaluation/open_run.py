"""Open benchmark end to end: sampling, prediction, measures, tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenface.core.files import write_atomically
from tokenface.errors import ModelFileError
from tokenface.evaluation.open_figures import (
    OpenReport,
    PictureErrors,
    calibration,
    disentanglement,
    groups,
    paired,
    picture_errors,
)
from tokenface.evaluation.open_methods import FittedLandmarks, MeanHead, Method, Network, Predictions
from tokenface.evaluation.openbench import CONDITIONS, SEED, VERSION, OpenSet, photograph
from tokenface.evaluation.people import draw_people
from tokenface.head.model import HeadModel

PEOPLE, QUICK_PEOPLE = 54, 6


@dataclass(frozen=True)
class OpenOptions:
    """people: how many; None: 54 (three of every group), or 6 if quick.  ict: file of ICT-FaceKit, whose people are
    then measured too.  photos: tar of annotated photos (`photo_set`), measured too; a tenth of them if quick."""

    weights: tuple[str | None, ...] = (None,)
    people: int | None = None
    quick: bool = False
    seed: int = SEED
    size: int = 224
    device: str = "auto"
    ict: Path | None = None
    photos: Path | None = None

    @property
    def count(self) -> int:
        return self.people or (QUICK_PEOPLE if self.quick else PEOPLE)


def run_open(options: OpenOptions, say: Callable[[str], None] = lambda text: None) -> OpenReport:
    """Run the benchmark; `say` hears what is being done."""
    from tokenface.model import Reconstructor

    models = [Reconstructor.load(name, options.device) for name in options.weights]
    head = models[0].head
    methods: list[Method] = [MeanHead(head)]
    notes = []
    try:
        methods.append(FittedLandmarks(head, models[0].detector))
    except (ModelFileError, ValueError) as error:
        notes.append(f"no landmark fit: {error}")
    methods += [Network(model) for model in models]
    document: dict[str, Any] = {
        "benchmark": f"TokenFace open benchmark {VERSION}",
        "seed": options.seed,
        "people": options.count,
        "pixels": options.size,
        "weights": {model.origin.weights: model.origin.weights_hash for model in models},
        "notes": notes,
    }
    report = OpenReport(document)
    document["OpenHead people"] = _measure_people(head, methods, options, say, report)
    if options.ict is not None:
        from tokenface.head.ict import load_ict
        from tokenface.head.transfer import dress

        ict = HeadModel(dress(load_ict([options.ict]), head.data))
        document["ICT-FaceKit people"] = _measure_people(ict, methods, options, say, None)
    if options.photos is not None:
        from tokenface.data.held_out import trained_split
        from tokenface.evaluation.photo_run import PhotoCounts, held_out_photos, measure_photos
        from tokenface.evaluation.photo_set import MAX_PHOTOS, photo_rows
        from tokenface.inference.checkpoint_facts import read_metadata
        from tokenface.weights import find_weights

        say(f"photos of '{options.photos}'")
        networks = {model.origin.weights: (model.predict, model.head, model.crop_size) for model in models}
        limit = MAX_PHOTOS // 10 if options.quick else MAX_PHOTOS
        split = trained_split(read_metadata(find_weights(options.weights[0])))
        document["photos"] = photo_rows(networks, options.photos, limit, split)
        counts = PhotoCounts.quick() if options.quick else PhotoCounts()
        chosen = held_out_photos(options.photos, counts.photos, split=split)
        document["photo measures"] = {
            name: measure_photos(predict, head, size, chosen, counts, say)
            for name, (predict, head, size) in networks.items()
        }
    return report


@torch.no_grad()
def _measure_people(
    people_head: HeadModel, methods: list[Method], options: OpenOptions, say: Callable, report: OpenReport | None
) -> dict[str, Any]:
    people = draw_people(people_head, options.count, options.seed)
    sets: list[OpenSet] = []
    predictions: dict[str, list[Predictions]] = {method.name: [] for method in methods}
    errors: dict[str, list[PictureErrors]] = {method.name: [] for method in methods}
    for condition in CONDITIONS:
        say(f"{people_head.name}: {condition.name}")
        pictures = photograph(people_head, people, condition, options.size, options.seed)
        sets.append(pictures)
        for method in methods:
            prediction = method(pictures)
            predictions[method.name].append(prediction)
            errors[method.name].append(picture_errors(pictures, people_head, prediction, method.head))
    if report is not None:
        report.sets, report.predictions, report.errors = sets, predictions, errors
        report.heads = {method.name: method.head for method in methods}
    names = [str(person) for _ in CONDITIONS for person in range(options.count)]
    together = {name: np.concatenate([e.neutral for e in rows]) for name, rows in errors.items()}
    mean_head = errors[MeanHead.name]
    return {
        "people": people.counts(),
        "conditions": {
            method.name: {
                pictures.condition.name: _row(error, base)
                for pictures, error, base in zip(sets, errors[method.name], mean_head, strict=True)
            }
            for method in methods
        },
        "ranks": paired(together, names),
        "disentanglement": {
            method.name: disentanglement(sets, predictions[method.name], method.head) for method in methods
        },
        "calibration": {
            method.name: calibration(
                np.concatenate([a.confidence for a in predictions[method.name] if a.confidence is not None]),
                np.concatenate([a.expected for a in predictions[method.name] if a.expected is not None]),
                together[method.name],
                np.concatenate([e.nme for e in errors[method.name]]),
            )
            for method in methods
            if all(a.confidence is not None for a in predictions[method.name])
        },
        "groups": {method.name: groups(sets, errors[method.name], people) for method in methods},
    }


def _row(error: PictureErrors, base: PictureErrors) -> dict[str, float]:
    return {
        "neutral mm": float(error.neutral.mean()),
        "neutral ratio": float(error.neutral.mean() / base.neutral.mean()),
        "posed mm": float(error.posed.mean()),
        "posed ratio": float(error.posed.mean() / base.posed.mean()),
        "nme %": float(error.nme.mean()),
        "nme ratio": float(error.nme.mean() / base.nme.mean()),
        "photometric": float(error.photo.mean()),
        "found": float(error.found.mean()),
    }


def write_open(report: OpenReport, folder: Path) -> Path:
    """`open.json`, numbers rounded to five digits, null for what there is not; and the pictures of `open_pictures`."""
    from tokenface.evaluation.open_pictures import open_pictures  # needs matplotlib, and this module's report

    if report.sets:
        for name, picture in open_pictures(report).items():
            write_atomically(folder / f"{name}.png", picture)
    text = json.dumps(rounded(report.document), indent=2, ensure_ascii=False)
    return write_atomically(folder / "open.json", (text + "\n").encode())


def rounded(value: Any) -> Any:
    """Floats of a document to five digits, NaN to None."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
