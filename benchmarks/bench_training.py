"""The paper's hybrid step against the network alone, waiting for data, and memory.

python -m benchmarks.bench_training tiny|small|base [--batch 8] [--repeats 5] [--steps 0]

One thread. The step is Eq. 1 on half scans, half photos of rendered people with every term (rendering twice, identity
included) and the backward pass; the network alone is its forward and backward pass on the same pictures. Both are
measured by turns in processor time. With --steps the real trainer runs with two decoding workers and two batches ahead,
and says how long its steps waited for their batches.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tokenface.core.configuration import from_dict
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches, StepBatch
from tokenface.training.config import TrainConfig
from tokenface.training.distribution import create_fabric
from tokenface.training.loop import Trainer
from tokenface.training.module import Prediction, TrainingModule
from tokenface.training.objective import Objective
from tokenface.training.people import rendered_people
from tokenface.training.validation import Validation

NETWORKS = {
    "tiny": {"backbone": "vit_tiny_stem_s3", "image_size": 192},
    "small": {"backbone": "vit_small_stem_s3", "image_size": 192},
    "base": {"backbone": "vit_base_patch16", "image_size": 224},
}
"""Of configs/default.yaml, configs/openhead/stages.yaml and configs/paper/tokenface-b.yaml."""


def configuration(name: str, batch: int, folder: Path) -> TrainConfig:
    """A run on records alone."""
    return from_dict(
        TrainConfig,
        {
            "network": NETWORKS[name],
            "data": {"root": str(folder), "share": 1.0, "workers": 2},
            "run": {"batch": batch, "threads": 1, "device": "cpu", "ahead": 2, "validation_people": 1},
        },
    )


def processor_seconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor time of each, by turns, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if repeat:
                times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def measure_step(config: TrainConfig, head: HeadModel, batch: StepBatch, repeats: int) -> None:
    module = TrainingModule(TokenFace(config.network, head.sizes)).train()
    objective = Objective(head, config, records=True)
    assert objective.hybrid is not None
    hybrid = objective.hybrid
    images = batch.images()

    def alone() -> None:
        sum(value.square().mean() for value in module(images).values()).backward()

    def step() -> None:
        objective(Prediction.from_named(module(images)), batch)[0].backward()

    with torch.no_grad():
        fixed = Prediction.from_named(module(images)).parameters
    fixed = dataclasses.replace(fixed, **{name: value.requires_grad_() for name, value in fixed.items()})
    assert batch.pictures is not None
    rows = slice(len(images) - len(batch.pictures.image), len(images))

    def drawing() -> None:
        hybrid.draw(fixed[rows]).image.square().mean().backward()

    print(f"peak memory before: {peak():.0f} MB")
    seconds = processor_seconds({"network": alone, "step": step, "one rendering": drawing}, repeats)
    for name, value in seconds.items():
        count = len(batch.pictures.image) if name == "one rendering" else len(images)
        print(f"{name}: {1000 * value:.0f} ms, {1000 * value / count:.1f} ms per picture")
    print(f"step / network: {seconds['step'] / seconds['network']:.2f}")
    print(f"peak memory: {peak():.0f} MB")


def measure_waiting(config: TrainConfig, head: HeadModel, batches: Batches, steps: int, folder: Path) -> None:
    validation = Validation(head, [], config.network.image_size, 1)
    model = TokenFace(config.network, head.sizes)
    trainer = Trainer(create_fabric(config.run), config, model, head, batches, validation, folder)
    for step in range(steps + 1):
        if step == 1:  # the first one waits for the workers to start
            trainer.waited = trainer.stepped = 0.0
        trainer.step()
    trainer.close()
    busy = 100 * (1 - trainer.waited / trainer.stepped)
    print(
        f"{steps} steps, {config.data.workers} workers: {trainer.stepped / steps:.2f} s a step, busy {busy:.1f} % of it"
    )


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = load_head()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = configuration(options.network, options.batch, folder)
        shards = rendered_people(folder, head, 2 * options.batch, 2, config.network.image_size)
        batches = Batches(config, head, [], folder / "ring", shards)
        (batch,), _ = batches.draw(0, 0)
        print(f"{options.network}, batch {options.batch} at {config.network.image_size} px")
        measure_step(config, head, batch, options.repeats)
        if options.steps:
            measure_waiting(config, head, Batches(config, head, [], folder / "ring", shards), options.steps, folder)


if __name__ == "__main__":
    main()
