"""Whole training runs, small enough for a CPU: what the benchmarks of exactness start."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import tokenface

SMALL = (
    "run.threads=1", "run.device=cpu", "run.log_every=1", "run.validate_every=100000", "run.validation_people=1",
    "network.backbone=vit_tiny_stem", "network.image_size=48", "optimiser.warmup_steps=5", "synthetic.block=2",
    "synthetic.fresh_per_step=2", "synthetic.ring=100", "synthetic.warm_start=8", "data.rendered_people=16",
    "data.rendered_pictures=2", "data.share=0.5", "paper.identity_encoder=null",
)  # fmt: skip
"""Rendered faces through the replay ring, scans and photos from shards; every loss but Eq. 10."""


def together(arguments: Sequence[str], processes: int) -> None:
    """`torchrun -m tokenface train ARGUMENTS` to its end. Raises SystemExit with what it said when it fails."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    places = {"USE_LIBUV": "0", "PYTHONPATH": str(Path(tokenface.__file__).parents[1])}
    done = subprocess.run(
        [*launcher, "-m", "tokenface", "train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **places}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def alone(overrides: Sequence[str] = (), resume: Path | None = None) -> BaseProcess:
    """A process that trains, forked from a server that has the libraries in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.runs", "tokenface.training.run"])
    process = context.Process(target=_train, args=(tuple(overrides), resume))
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run ended with exit code {process.exitcode}")


def _train(overrides: tuple[str, ...], resume: Path | None) -> None:
    from tokenface.training.run import train

    torch.set_num_threads(1)
    train(None, overrides, resume, report=lambda line: None)
