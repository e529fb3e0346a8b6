"""Training loop: one mixed batch per step, on any device, precision and number of processes."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tokenface.core.prefetch import ahead
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters
from tokenface.training.batches import Batches, StepBatch, mixed
from tokenface.training.config import TrainConfig
from tokenface.training.distribution import own, whole
from tokenface.training.metrics import Metrics
from tokenface.training.module import Prediction, TrainingModule
from tokenface.training.objective import Objective
from tokenface.training.optimiser import WeightAverage, create_optimiser
from tokenface.training.state import Progress, load_scaler, load_state, save_state
from tokenface.training.teaching import BATCH, Teaching
from tokenface.training.validation import Validation

PSEUDO_LABEL_RENDERS = 512
"""Rendered faces on which self-training's teacher is tried, action by action."""


class Trainer:
    """One run in one folder; `fit` continues wherever the folder's state stands.

    Args:
        fabric: launched; says on which device, in which precision and with which other processes.
        model: moved to the device, sharded with FSDP.  head: on the device.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        model: TokenFace,
        head: HeadModel,
        batches: Batches,
        validation: Validation,
        folder: Path,
        teaching: Teaching | None = None,
    ):
        self.fabric, self.config, self.model, self.folder = fabric, config, model, folder
        self.batches, self.validation, self.teaching = batches, validation, teaching
        self.objective = Objective(head, config, bool(batches.records))
        self.steps = config.run.epochs * batches.epoch_steps() or config.run.steps
        module = TrainingModule(model)
        if config.run.compile:
            module.compile()
        self.network = fabric.setup_module(module)
        o = config.optimiser
        self.optimiser = create_optimiser(
            model.parameter_groups(o.weight_decay), o, half=config.run.precision == "bf16"
        )
        self.stepper: Any = fabric.setup_optimizers(self.optimiser)
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)  # fp16 alone has one
        self.average = WeightAverage(model, o.ema_decay)
        self.progress, self.head_hash = Progress(), head.data.geometry_hash()
        self.state_path = folder / "state.safetensors"
        if self.state_path.is_file():
            self.progress = load_state(self.state_path, model, self.average.values, self.optimiser, self.head_hash)
            if self.scaler is not None and (saved := load_scaler(self.state_path)):
                self.scaler.load_state_dict(saved)
            if teaching is not None and self.progress.step:
                teaching.restore()
        self._finished: TokenFace | None = None
        self._upcoming: Iterator[tuple[list[StepBatch], int]] | None = None
        self.waited = self.stepped = 0.0
        """Seconds in which steps waited for their batches, and whole steps, since the last line of the curve."""

    def fit(self, metrics: Metrics, report=print) -> dict[str, float]:
        """Train to the last step; returns the last validation's figures."""
        run, progress = self.config.run, self.progress
        figures: dict[str, float] = {}
        sums = {name: torch.tensor(value, device=self.fabric.device) for name, value in progress.sums.items()}
        started, seconds_before, counted = time.monotonic(), progress.seconds, progress.counted
        while progress.step < self.steps:
            self._update_pseudo_labels(report)
            for name, value in self.step().items():
                sums[name] = sums[name] + value if name in sums else value
            counted += 1
            progress.seconds = seconds_before + time.monotonic() - started
            last = progress.step == self.steps
            if progress.step % run.log_every == 0 or last:
                means = self._means(sums, counted)
                rate = progress.images / max(progress.seconds, 1e-9)
                timings = {"images_per_s": rate, "waiting": self.waited / max(self.stepped, 1e-9)}
                metrics.write("train", progress.step, {**means, **timings, "lr": self._learning_rate()})
                report(f"step {progress.step}/{self.steps}  loss {means['total']:.4f}  {rate:.0f} images/s")
                sums, counted, self.waited, self.stepped = {}, 0, 0.0, 0.0
            if progress.step % run.validate_every == 0 or last:
                figures = self.validate(metrics, self.finished(report) if last else self.averaged())
                report("  ".join([f"step {progress.step}", *(f"{k} {v:.4g}" for k, v in figures.items())]))
            if progress.step % run.checkpoint_every == 0 or last:
                progress.sums, progress.counted = self._means(sums, 1) if sums else {}, counted
                self.save()
        return figures or self.validate(metrics, self.finished(report))

    def _update_pseudo_labels(self, report) -> None:
        """Self-training's targets from the averaged weights, when they are due."""
        if self.teaching is None or not self.teaching.due(self.progress.step):
            return
        seeds = [mixed(-1, seed) for seed in range(PSEUDO_LABEL_RENDERS // BATCH)]
        renders, self.progress.rendered = self.batches.pseudo_label_renders(self.progress.rendered, BATCH, seeds)
        bias = self.teaching.teach(self.averaged(), renders)
        if self.fabric.is_global_zero:
            self.teaching.save()
        report(
            f"step {self.progress.step}  pseudo-labels: baseline {bias.baseline:.2f}, mean shape {bias.shape_bias:.3f}"
            f", spread over rendered faces': actions {bias.action_spread:.2f}, people {bias.shape_spread:.2f}"
        )

    def step(self) -> dict[str, Tensor]:
        """Draw the next batch and learn from it; returns the losses by name, of this process."""
        progress, begun = self.progress, time.monotonic()
        self.network.train()
        torch.manual_seed(mixed(self.config.run.seed + 3 + self.fabric.global_rank, progress.step))  # stochastic depth
        passes, rendered = self._next_batch()
        if self.teaching is not None:
            passes = self._taught(passes)
        self.waited += time.monotonic() - begun
        self.optimiser.zero_grad(set_to_none=True)
        figures: dict[str, Tensor] = {}
        for index, batch in enumerate(passes):
            with self.fabric.no_backward_sync(self.network, enabled=index + 1 < len(passes)):
                losses = self._losses(batch)
                self.fabric.backward(losses["total"] / len(passes))
            for name, value in losses.items():
                value = value.detach() / len(passes)
                figures[name] = figures[name] + value if name in figures else value
        norm = self._clip()
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        if self.scaler is None:  # which sees to it itself
            self._forget_overflow(norm)
        self.stepper.step()
        progress.step += 1
        progress.rendered = rendered
        progress.images += self.config.run.batch
        self.average.update(self.model, progress.step)
        self.stepped += time.monotonic() - begun
        return {"gradient_norm": norm, **figures}

    def validate(self, metrics: Metrics, model: TokenFace) -> dict[str, float]:
        """Figures and sample pictures of a network in evaluation mode."""

        def predict(images: Tensor) -> FaceParameters:
            return model(images.to(self.fabric.device)).to("cpu")

        figures = self.validation.run(predict)
        metrics.write("validation", self.progress.step, figures)
        metrics.picture("samples", self.progress.step, self.validation.sheet(predict))
        return figures

    def averaged(self) -> TokenFace:
        """A network of its own with the averaged weights, whole on every process."""
        model = TokenFace(self.model.config, self.model.sizes, seed=0)
        model.load_state_dict({name: whole(value) for name, value in self.average.values.items()})
        return model.to(self.fabric.device).eval()

    def finished(self, report=print) -> TokenFace:
        """The averaged weights as they leave the run: after self-training without their bias on photos."""
        if self._finished is None:
            self._finished = self.averaged()
            if self.teaching is not None:
                bias = self.teaching.take_out_bias(self._finished)
                report(f"bias on photos taken out: expressions {float(bias.expression.sum()):.2f}")
        return self._finished

    def save(self) -> None:
        """Write the state; killed at any moment, the one before it or this one is there."""
        scaler = None if self.scaler is None else self.scaler.state_dict()
        writes = self.fabric.is_global_zero
        parts = (self.model, self.average.values, self.optimiser, self.progress)
        save_state(self.state_path, *parts, scaler, writes, self.head_hash)
        self.fabric.barrier()

    def close(self) -> None:
        """Stop making batches ahead."""
        if self._upcoming is not None:
            with closing(self._upcoming):  # type: ignore[type-var]
                self._upcoming = None

    def _losses(self, batch: StepBatch) -> dict[str, Tensor]:
        batch = batch.to(self.fabric.device)
        total, figures = self.objective(Prediction.from_named(self.network(batch.images())), batch)
        return {**figures, "total": total}

    def _next_batch(self) -> tuple[list[StepBatch], int]:
        if not self.config.run.ahead:
            return self.batches.draw(self.progress.step, self.progress.rendered)
        if self._upcoming is None:
            self._upcoming = ahead(self.batches.ahead(self.progress), self.config.run.ahead)
        return next(self._upcoming)

    def _taught(self, passes: list[StepBatch]) -> list[StepBatch]:
        """The passes with self-training's photos: they depend on the pseudo-labels, so they are not made ahead."""
        assert self.teaching is not None
        step, parts = self.progress.step, self.batches.layout.parts(self.batches.counts.landmark_photos)
        seed = self.batches.photo_seed(step)
        return [
            dataclasses.replace(batch, landmark_photos=self.teaching.photos(seed, part))
            for batch, part in zip(passes, parts, strict=True)
        ]

    def _clip(self) -> Tensor:
        limit = self.config.optimiser.clip_norm or math.inf
        norm = self.fabric.clip_gradients(self.network, self.stepper, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        return whole(norm.detach())

    def _forget_overflow(self, norm: Tensor) -> None:
        """Gradients of a batch that overflowed become 0, so that the moments stay sound; decided on the device."""
        lost = ~torch.isfinite(norm)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                own(parameter.grad).masked_fill_(lost, 0.0)

    def _means(self, sums: dict[str, Tensor], counted: int) -> dict[str, float]:
        """Means over the steps since the last line and over the processes."""
        values = torch.stack([value.float() for value in sums.values()]) / counted
        if self.fabric.world_size > 1:
            values = torch.as_tensor(self.fabric.all_reduce(values, reduce_op="mean"))
        means = dict(zip(sums, values.tolist(), strict=True))
        return {"total": means.pop("total"), **means}

    def _learning_rate(self) -> float:
        o, step = self.config.optimiser, self.progress.step
        if step < o.warmup_steps:
            return o.learning_rate * (step + 1) / o.warmup_steps
        done = (step - o.warmup_steps) / max(1, self.steps - o.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return o.learning_rate * (o.final_learning_rate + (1 - o.final_learning_rate) * cosine)
