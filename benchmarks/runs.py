"""Whole training runs by the command line, small enough for a CPU: what the benchmarks of exactness start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import tokenface

SMALL = (
    "run.threads=1", "run.device=cpu", "run.log_every=1", "run.validate_every=100000", "run.validation_people=1",
    "network.backbone=vit_tiny_stem", "network.image_size=64", "optimiser.warmup_steps=5", "synthetic.block=4",
    "synthetic.fresh_per_step=2", "synthetic.ring=100", "synthetic.warm_start=8", "data.rendered_people=16",
    "data.rendered_pictures=2", "data.share=0.5", "paper.identity_encoder=null",
)  # fmt: skip
"""Rendered faces through the replay ring, scans and photos from shards; every loss but Eq. 10."""


def start(arguments: Sequence[str], processes: int = 1) -> subprocess.Popen:
    """`tokenface train ARGUMENTS`, with several processes under torchrun."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "USE_LIBUV": "0", "PYTHONPATH": str(Path(tokenface.__file__).parents[1])
    }  # fmt: skip
    command = [*launcher, "-m", "tokenface", "train", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(arguments: Sequence[str], processes: int = 1) -> None:
    """Run to the end. Raises SystemExit with what the run said when it fails."""
    run = start(arguments, processes)
    _, errors = run.communicate()
    if run.returncode:
        raise SystemExit(errors[-3000:])
