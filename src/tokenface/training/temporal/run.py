"""`tokenface train-temporal`: features, training, figures, and the file beside the image weights."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tokenface.configuration import read_config, to_yaml
from tokenface.errors import CheckpointError
from tokenface.formats.files import make_folder, write_atomically
from tokenface.inference.reconstruct import Reconstructor
from tokenface.network.temporal import TemporalTransformer
from tokenface.network.temporal_checkpoint import save_temporal, temporal_path
from tokenface.network.tokenface import TokenFace
from tokenface.training.ema import WeightAverage
from tokenface.training.temporal.config import TemporalConfig
from tokenface.training.temporal.features import ClipFeatures, prepare
from tokenface.training.temporal.objective import TemporalObjective
from tokenface.training.temporal.validation import Steadiness, best_of, best_one_euro, measure, truth_jitter
from tokenface.training.temporal.windows import steadied
from tokenface.weights import file_hash, find_weights

REPORT_EVERY = 25
CHOICE_ERROR = 1.01
"""Error over per-frame's that the chosen weights keep on the clips they are chosen by: less than what is allowed, so
that other clips have some room."""


def train_temporal(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], object] = print
) -> Path:
    """Train and write a temporal transformer for some image weights.

    Clips and their tokens stay in the run's folder: another mode or other losses look at nothing again, other image
    weights only look again at the same clips.

    Returns:
        The file that was written.
    Raises:
        ConfigError, CheckpointError, OutputError.
    """
    config = read_config(TemporalConfig, config_path, overrides)
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = find_weights(config.weights)
    model = Reconstructor.load(weights, "cpu")
    network = model.network
    if not isinstance(network, TokenFace):
        raise CheckpointError("a temporal transformer needs a network with component tokens")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    folder = make_folder(config.folder)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    started = time.process_time()
    training, held_out = prepare(model, config.data, folder, report)
    report(
        f"{len(training)} clips to train on, {len(held_out)} held out; {time.process_time() - started:.0f} CPU seconds"
    )

    torch.manual_seed(config.optimiser.seed)
    module = TemporalTransformer(training.tokens.shape[-1], training.tokens.shape[-2], config.mode)
    objective = TemporalObjective(network, model.head, config.losses)
    choosing = held_out[: len(held_out) // 3]
    module = _fit(module, objective, training, choosing, config, report)
    figures = _figures(objective, held_out[len(choosing) :], module)
    for name, value in figures.items():
        report(f"{name}: {value}")
    path = Path(config.output) if config.output else temporal_path(weights, config.mode)
    facts = {
        "licence": "Apache-2.0",
        "training": {
            "clips": config.data.clips,
            "frames": config.data.frames,
            "steps": config.optimiser.steps,
            "cpu_seconds": round(time.process_time() - started),
            "config": to_yaml(config),
        },
        "metrics": figures,
    }
    save_temporal(path, module, file_hash(weights), facts)
    write_atomically(folder / "figures.json", (json.dumps(figures, indent=1) + "\n").encode())
    return path


def _fit(
    module: TemporalTransformer,
    objective: TemporalObjective,
    clips: ClipFeatures,
    choosing: ClipFeatures,
    config: TemporalConfig,
    report: Callable[[str], object],
) -> TemporalTransformer:
    """The module trained on runs of consecutive frames, with the averaged weights of the moment that did best on clips
    of their own: longer training learns the clips' errors by heart."""
    o = config.optimiser
    optimiser = torch.optim.AdamW(module.parameters(), o.learning_rate, weight_decay=o.weight_decay)
    average = WeightAverage(module, o.ema_decay)
    generator = torch.Generator().manual_seed(o.seed + 1)
    length = min(o.length, clips.tokens.shape[1])
    module.train()
    sums: dict[str, float] = {}
    moments: list[tuple[dict[str, torch.Tensor], Steadiness]] = []
    plain = measure(objective, choosing, None)
    seen = copy.deepcopy(module).eval()
    for step in range(o.steps):
        batch = _runs(clips, o.batch, length, generator)
        terms = objective.terms(steadied(module, batch.tokens, batch.crops), batch)
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), o.clip_norm)
        rate = min(1.0, (step + 1) / max(1, o.warmup_steps)) * 0.5 * (1 + math.cos(math.pi * step / max(1, o.steps)))
        for group in optimiser.param_groups:
            group["lr"] = o.learning_rate * rate
        if torch.isfinite(norm):
            optimiser.step()
        average.update(module, step + 1)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == o.steps:
            count = (step % REPORT_EVERY) + 1
            report(f"step {step + 1}/{o.steps}  " + "  ".join(f"{k} {v / count:.4f}" for k, v in sums.items()))
            sums = {}
            values = {name: value.clone() for name, value in average.values.items()}
            seen.load_state_dict(values)
            moments.append((values, measure(objective, choosing, seen)))
    values, _ = best_of(moments, plain, CHOICE_ERROR)
    module.load_state_dict(values)
    return module.eval()


def _runs(clips: ClipFeatures, count: int, length: int, generator: torch.Generator) -> ClipFeatures:
    """[count] runs of `length` consecutive frames from anywhere."""
    which = torch.randint(len(clips), (count,), generator=generator)
    starts = torch.randint(clips.tokens.shape[1] - length + 1, (count,), generator=generator)
    parts = []
    for clip, start in zip(which.tolist(), starts.tolist(), strict=True):
        one = clips[clip]
        values = {
            name: value if value.dim() == 0 else value[start : start + length] for name, value in vars(one).items()
        }
        parts.append(ClipFeatures(**values))
    return ClipFeatures.stack(parts)


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


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
