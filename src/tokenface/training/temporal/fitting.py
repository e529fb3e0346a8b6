"""Training loop of the temporal transformer; returns the averaged weights of the best checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenface.network.temporal import TemporalTransformer
from tokenface.training.optimiser import WeightAverage
from tokenface.training.temporal.config import TemporalConfig, TemporalOptimiser
from tokenface.training.temporal.features import ClipFeatures, steadied
from tokenface.training.temporal.objective import RecordObjective, TemporalObjective
from tokenface.training.temporal.records import RecordFeatures
from tokenface.training.temporal.validation import Ratios, best_of, measure, measure_records


def synthetic_runs(
    clips: ClipFeatures, count: int, length: int, strides: Sequence[int], generator: torch.Generator
) -> ClipFeatures:
    """`count` runs of `length` frames from anywhere, each at one of the strides."""
    which = torch.randint(len(clips), (count,), generator=generator).tolist()
    return ClipFeatures.stack(
        [clips[clip].run(_frames(clips.tokens.shape[1], length, strides, generator)) for clip in which]
    )


def real_runs(
    clips: Sequence[RecordFeatures], count: int, length: int, strides: Sequence[int], generator: torch.Generator
) -> RecordFeatures:
    """The same of real clips, each of `length` frames or more; long ones are drawn from more often."""
    ends = torch.tensor([len(clip) for clip in clips]).cumsum(0)
    drawn = torch.randint(int(ends[-1]), (count,), generator=generator)
    which = torch.searchsorted(ends, drawn, right=True).tolist()
    return RecordFeatures.stack(
        [clips[clip].run(_frames(len(clips[clip]), length, strides, generator)) for clip in which]
    )


def _frames(available: int, length: int, strides: Sequence[int], generator: torch.Generator) -> slice:
    """`length` frames of a clip; strides that do not fit are not taken."""
    fitting = [stride for stride in strides if (length - 1) * stride < available] or [1]
    stride = fitting[int(torch.randint(len(fitting), (1,), generator=generator))]
    reach = (length - 1) * stride + 1
    first = int(torch.randint(available - reach + 1, (1,), generator=generator))
    return slice(first, first + reach, stride)


REPORT_EVERY = 25
CHOICE_ERROR = 1.02
"""Error over per-frame's, of any kind, that the chosen weights keep on the clips they are chosen by."""


@dataclass(frozen=True)
class Clips:
    """synthetic: with their truth.  real: of their own lengths; none: there are no shards."""

    synthetic: ClipFeatures
    real: list[RecordFeatures]


@dataclass(frozen=True)
class Objectives:
    synthetic: TemporalObjective
    real: RecordObjective

    def terms(self, module: TemporalTransformer, clips: ClipFeatures, real: RecordFeatures | None) -> dict[str, Tensor]:
        """Weighted terms of a batch, each part counting by its share of the runs."""
        count = len(clips) + (0 if real is None else len(real))
        terms = self.synthetic.terms(steadied(module, clips.tokens, clips.crops), clips)
        terms = {name: value * (len(clips) / count) for name, value in terms.items()}
        if real is not None:
            found = self.real.terms(steadied(module, real.tokens, real.crops), real)
            terms |= {f"real_{name}": value * (len(real) / count) for name, value in found.items()}
        return terms

    def ratios(self, module: TemporalTransformer, clips: Clips) -> Ratios:
        """Over per-frame's: the worse error and the mean jitter of both kinds of clips."""
        found = [measure(self.synthetic, clips.synthetic, module).over(measure(self.synthetic, clips.synthetic, None))]
        if clips.real:
            plain = measure_records(self.real, clips.real, None)
            found.append(measure_records(self.real, clips.real, module).over(plain))
        return Ratios(max(r.error for r in found), sum(r.jitter for r in found) / len(found))


def fit(
    module: TemporalTransformer,
    objectives: Objectives,
    training: Clips,
    validation: Clips,
    config: TemporalConfig,
    report: Callable[[str], object],
) -> TemporalTransformer:
    """The module with the averaged weights of the checkpoint that is best on the validation clips: early stopping,
    since longer training overfits to the clips' errors."""
    o = config.optimiser
    optimiser = _optimiser(module, o)
    average = WeightAverage(module, o.ema_decay)
    module.train()
    sums: dict[str, float] = {}
    checkpoints: list[tuple[dict[str, Tensor], Ratios]] = []
    seen = copy.deepcopy(module).eval()
    for step, (synthetic, real) in enumerate(_batches(training, config)):
        terms = objectives.terms(module, synthetic, real)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), o.clip_norm)
        rate = min(1.0, (step + 1) / max(1, o.warmup_steps)) * 0.5 * (1 + math.cos(math.pi * step / max(1, o.steps)))
        for group in optimiser.param_groups:
            group["lr"] = group["most"] * rate
        if torch.isfinite(norm):
            optimiser.step()
        average.update(module, step + 1)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == o.steps:
            count = (step % REPORT_EVERY) + 1
            values = {name: value.clone() for name, value in average.values.items()}
            seen.load_state_dict(values)
            checkpoints.append((values, objectives.ratios(seen, validation)))
            ratios = "error {:.3f} × jitter {:.3f} ×  ".format(*checkpoints[-1][1])
            report(f"step {step + 1}/{o.steps}  {ratios}" + "  ".join(f"{k} {v / count:.4f}" for k, v in sums.items()))
            sums = {}
    module.load_state_dict(best_of(checkpoints, CHOICE_ERROR))
    return module.eval()


def _optimiser(module: TemporalTransformer, o: TemporalOptimiser) -> torch.optim.Optimizer:
    quick = [module.caution, module.doubt]
    others = [value for name, value in module.named_parameters() if name not in ("caution", "doubt")]
    groups = [
        {"params": others, "most": o.learning_rate, "weight_decay": o.weight_decay},
        {"params": quick, "most": o.learning_rate * o.adaptation_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, o.learning_rate)


def _batches(clips: Clips, config: TemporalConfig) -> Iterator[tuple[ClipFeatures, RecordFeatures | None]]:
    """A batch a step; the real runs are drawn after the synthetic ones."""
    o, available = config.optimiser, clips.synthetic.tokens.shape[1]
    generator = torch.Generator().manual_seed(o.seed + 1)
    real = min(o.batch - 1, max(1, round(o.batch * config.data.clip_share))) if clips.real else 0
    length = min(o.length, available)
    for _ in range(o.steps):
        synthetic = synthetic_runs(clips.synthetic, o.batch - real, length, o.strides, generator)
        yield synthetic, real_runs(clips.real, real, length, o.strides, generator) if real else None
