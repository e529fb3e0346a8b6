"""`tokenface train-temporal`: split by person, features, training, figures, checkpoint beside the image weights."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tokenface.core.configuration import read_config, to_yaml
from tokenface.core.files import make_folder, write_atomically
from tokenface.core.threads import configured_threads
from tokenface.errors import CheckpointError, DataError
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer
from tokenface.network.temporal_checkpoint import save_temporal, temporal_path
from tokenface.network.tokenface import TokenFace
from tokenface.training.provenance import without_folders
from tokenface.training.temporal.config import SequenceData, TemporalConfig
from tokenface.training.temporal.features import ClipFeatures, prepare
from tokenface.training.temporal.fitting import Clips, Objectives, fit
from tokenface.training.temporal.objective import RecordObjective, TemporalObjective
from tokenface.training.temporal.records import RecordClips, RecordFeatures
from tokenface.training.temporal.validation import best_one_euro, measure, measure_records, truth_jitter
from tokenface.weights import file_hash, find_weights

SHARE = 8
"""One person in so many is for validation, and one for the test, where nobody is named."""


class People(NamedTuple):
    training: frozenset[str]
    validation: frozenset[str]
    held_out: frozenset[str]


def split_people(names: Sequence[str], data: SequenceData) -> People:
    """The people of some shards in three groups: as the settings name them, the others drawn by seed.

    Raises:
        DataError: an unknown name, one in both groups, or nobody left to train on.
    """
    for name in (*data.validation_people, *data.held_out_people):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1) or sorted(names)[:1]
            raise DataError(f"nobody named '{name}' has clips in '{data.root}'; did you mean '{near[0]}'?")
    if both := set(data.validation_people) & set(data.held_out_people):
        raise DataError(f"'{min(both)}' stands in data.validation_people and in data.held_out_people; name each once")
    rest = sorted(set(names) - set(data.validation_people) - set(data.held_out_people))
    rest = [rest[i] for i in np.random.default_rng(data.seed).permutation(len(rest))]
    groups = []
    for named in (data.held_out_people, data.validation_people):
        drawn = 0 if named else max(1, len(names) // SHARE)
        groups.append(frozenset(named or rest[:drawn]))
        rest = rest[drawn:]
    if not rest:
        raise DataError(f"'{data.root}' has clips of {len(names)} people, and none is left to train on; add some")
    return People(frozenset(rest), groups[1], groups[0])


def train_temporal(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], object] = print
) -> Path:
    """Train and write a temporal transformer for some image weights.

    Clips and their tokens stay in the run's folder: another mode or other losses reuse the tokens, other image weights
    only the clips.

    Returns:
        The file that was written.
    Raises:
        ConfigError, CheckpointError, OutputError.
    """
    config = read_config(TemporalConfig, config_path, overrides)
    configured_threads(config.threads)
    weights = find_weights(config.weights)
    model = Predictor.load(weights, "cpu")
    network = model.network
    if not isinstance(network, TokenFace):
        raise CheckpointError("a temporal transformer needs a network with component tokens")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    folder = make_folder(config.folder)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    started = time.process_time()
    training, validation, held_out = _clips(model, config, folder, report)
    report(f"looked at all clips; {time.process_time() - started:.0f} CPU seconds")

    torch.manual_seed(config.optimiser.seed)
    tokens = training.synthetic.tokens
    module = TemporalTransformer(tokens.shape[-1], tokens.shape[-2], config.mode)
    synthetic = TemporalObjective(network, model.head, config.losses)
    objectives = Objectives(synthetic, RecordObjective(synthetic, config.real_losses))
    module = fit(module, objectives, training, validation, config, report)
    figures = _figures(synthetic, held_out.synthetic, module)
    if held_out.real:
        figures["real"] = _real_figures(objectives.real, held_out.real, module)
    for name, value in figures.items():
        report(f"{name}: {value}")
    path = Path(config.output) if config.output else temporal_path(weights, config.mode)
    facts = {
        "licence": "Apache-2.0",
        "training": {
            "clips": config.data.clips,
            "frames": config.data.frames,
            "real_frames": sum(len(clip) for clip in training.real),
            "steps": config.optimiser.steps,
            "cpu_seconds": round(time.process_time() - started),
            "config": to_yaml(without_folders(config)),
        },
        "metrics": figures,
    }
    save_temporal(path, module, file_hash(weights), facts)
    write_atomically(folder / "figures.json", (json.dumps(figures, indent=1) + "\n").encode())
    return path


def _clips(
    model: Predictor, config: TemporalConfig, folder: Path, report: Callable[[str], object]
) -> tuple[Clips, Clips, Clips]:
    """Training, validation and test clips. Shards are opened first: what is wrong with them is
    known before anything is rendered."""
    data = config.data
    real: list[list[RecordFeatures]] = [[], [], []]
    if data.root is not None:
        records = RecordClips(model, data.root, folder, config.optimiser.length, report)
        groups = split_people(records.people, data)
        real = [records.of(people) for people in groups]
        for doing, people, clips in zip(("trained on", "chosen by", "held out"), groups, real, strict=True):
            report(f"real clips {doing}: {sum(map(len, clips))} frames of {', '.join(sorted(people))}")
    training, held_out = prepare(model, data, folder, report)
    first = len(held_out) // 3
    return Clips(training, real[0]), Clips(held_out[:first], real[1]), Clips(held_out[first:], real[2])


def _figures(objective: TemporalObjective, held_out: ClipFeatures, module: TemporalTransformer) -> dict[str, Any]:
    plain, steady = measure(objective, held_out, None), measure(objective, held_out, module)
    settings, filtered = best_one_euro(objective, held_out)
    head_space, picture = truth_jitter(objective, held_out)
    return {
        "per_frame": _rounded(asdict(plain)),
        "one_euro": {**_rounded(asdict(filtered)), "min_cutoff": settings.min_cutoff, "beta": settings.beta},
        "temporal": _rounded(asdict(steady)),
        "truth_jitter": round(head_space, 4),
        "truth_picture_jitter": round(picture, 4),
        "jitter_ratio": round(steady.jitter / plain.jitter, 4),
        "picture_jitter_ratio": round(steady.picture_jitter / plain.picture_jitter, 4),
        "error_ratio": round(steady.error / plain.error, 4),
        "picture_error_ratio": round(steady.picture_error / plain.picture_error, 4),
    }


def _real_figures(
    objective: RecordObjective, clips: list[RecordFeatures], module: TemporalTransformer
) -> dict[str, Any]:
    plain, steady = measure_records(objective, clips, None), measure_records(objective, clips, module)
    before, after = asdict(plain), asdict(steady)
    return {
        "frames": sum(len(clip) for clip in clips),
        "per_frame": _rounded(before),
        "temporal": _rounded(after),
        **{f"{name}_ratio": round(after[name] / before[name], 4) for name in before if name != "lag"},
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
