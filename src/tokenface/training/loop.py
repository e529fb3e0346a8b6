"""The training loop: mixed batches, bf16, AdamW, warm-up and cosine, EMA, clipping, resumable from any step."""

from __future__ import annotations

import csv
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches
from tokenface.training.config import TrainConfig
from tokenface.training.ema import WeightAverage
from tokenface.training.objective import Objective
from tokenface.training.optimiser import create_optimiser
from tokenface.training.state import Progress, load_state, save_state
from tokenface.training.validation import Validation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Trainer:
    """One run in one folder; `fit` continues wherever the folder's state stands."""

    def __init__(
        self,
        config: TrainConfig,
        model: TokenFace,
        head: HeadModel,
        batches: Batches,
        validation: Validation,
        folder: Path,
    ):
        self.config, self.model, self.folder = config, model, folder
        self.batches, self.validation = batches, validation
        self.objective = Objective(head, config.losses)
        self.device = head.template.device
        precision = config.run.precision
        self.bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        o = config.optimiser
        self.optimiser = create_optimiser(model.parameter_groups(o.weight_decay), o)
        self.average = WeightAverage(model, o.ema_decay)
        self.progress = Progress()
        self.state_path = folder / "state.safetensors"
        if self.state_path.is_file():
            self.progress = load_state(self.state_path, model, self.average.values, self.optimiser)

    def fit(self, report=print) -> dict[str, float]:
        """Train to `run.steps`; returns the last validation's figures."""
        run, progress = self.config.run, self.progress
        log = _Log(self.folder)
        figures: dict[str, float] = {}
        sums: dict[str, float | Tensor] = {}
        started, seconds_before, counted = time.monotonic(), progress.seconds, 0
        while progress.step < run.steps:
            terms = self.step()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            counted += 1
            progress.seconds = seconds_before + time.monotonic() - started
            last = progress.step == run.steps
            if progress.step % run.log_every == 0 or last:
                means = {name: float(value) / counted for name, value in sums.items()}
                rate = progress.images / max(progress.seconds, 1e-9)
                log.write("train", progress.step, {**means, "images_per_s": rate, "lr": self._learning_rate()})
                report(f"step {progress.step}/{run.steps}  loss {means['total']:.4f}  {rate:.0f} images/s")
                sums, counted = {}, 0
            if progress.step % run.validate_every == 0 or last:
                figures = self.validate()
                log.write("validation", progress.step, figures)
                report("  ".join([f"step {progress.step}", *(f"{k} {v:.4g}" for k, v in figures.items())]))
            if progress.step % run.checkpoint_every == 0 or last:
                save_state(self.state_path, self.model, self.average.values, self.optimiser, progress)
        log.close()
        return figures or self.validate()

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights."""
        with self.average.applied_to(self.model):
            self.model.eval()
            return self.validation.run(self.model)

    def step(self) -> dict[str, Tensor]:
        """Draw the next batch and learn from it; returns the weighted losses by name."""
        self.model.train()
        synthetic, photos = self.batches.draw(self.progress)
        images = synthetic.image if photos is None else torch.cat([synthetic.image, photos.image])
        images = images.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            output = self.model.forward_with_extras(images)
        count = len(synthetic.parameters)
        parameters = output.parameters.to(torch.float32)
        log_sigma = None if output.log_sigma is None else output.log_sigma.float()
        terms = self.objective.synthetic(
            parameters[:count], synthetic, None if log_sigma is None else log_sigma[:count]
        )
        if photos is not None:
            terms |= self.objective.photos(parameters[count:], photos, None if log_sigma is None else log_sigma[count:])
        total = torch.stack(list(terms.values())).sum()

        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        if torch.isfinite(norm):  # a batch that overflows must not poison the moments
            self.optimiser.step()
        self.progress.step += 1
        self.progress.images += len(images)
        self.average.update(self.model, self.progress.step)
        return {"total": total, "gradient_norm": norm, **terms}

    def _learning_rate(self) -> float:
        o, step = self.config.optimiser, self.progress.step
        if step < o.warmup_steps:
            return o.learning_rate * (step + 1) / o.warmup_steps
        done = (step - o.warmup_steps) / max(1, self.config.run.steps - o.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return o.learning_rate * (o.final_learning_rate + (1 - o.final_learning_rate) * cosine)


class _Log:
    """CSV per kind of figure, and TensorBoard where it is installed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.board: SummaryWriter | None = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, figures: dict[str, float]) -> None:
        path = self.folder / f"{kind}.csv"
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", *figures])
            writer.writerow([step, *(f"{v:.6g}" for v in figures.values())])
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
