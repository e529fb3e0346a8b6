"""Two processes that share a batch give what one process gives: DDP and FSDP over gloo, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_backbone  # noqa: F401 (its networks)
from both_strategies import STRATEGIES
from safetensors.torch import load_file

import tokenface
from tokenface.training.metrics import TIMINGS, read_curve
from tokenface.training.run import train

MIXED = (
    "run.threads=1", "run.device=cpu", "run.steps=2", "run.log_every=1", "run.checkpoint_every=1", "run.batch=12",
    "run.validation_people=1", "network.backbone=vit_toy", "network.image_size=48", "optimiser.warmup_steps=0",
    "synthetic.block=2", "synthetic.fresh_per_step=2", "synthetic.ring=40", "synthetic.warm_start=4",
    "data.rendered_people=4", "data.rendered_pictures=2", "data.share=0.67", "data.workers=0",
    "paper.identity_encoder=null",
)  # fmt: skip
"""Four rendered faces, four scans, four photos in each batch."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train(None, [*MIXED, f"run.folder={folder}", "run.name=alone"], report=lambda line: None)
    return folder / "alone"


@pytest.fixture(scope="module")
def shared(alone) -> str:
    """What two processes said that trained with one strategy after the other: their imports take longer than that."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    places = [str(Path(tokenface.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places), "USE_LIBUV": "0"}
    done = subprocess.run(
        [*torchrun, "-m", "both_strategies", *MIXED, f"run.folder={alone.parent}"],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_one_process_speaks_for_all(shared):
    assert shared.count("step 2/2") == len(STRATEGIES)
    assert shared.count("2 processes") == len(STRATEGIES)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_learn_what_one_learns_from_the_whole_batch(alone, strategy):
    folder = alone.parent
    expected, found = read_curve(alone / "train.csv"), read_curve(folder / strategy / "train.csv")
    assert [row["step"] for row in found] == ["1", "2"]
    for mine, theirs in zip(expected, found, strict=True):
        assert mine.keys() == theirs.keys()
        assert {"neutral", "records_mesh", "records_vertex_consistency", "records_shape_consistency"} <= mine.keys()
        for term in mine.keys() - {*TIMINGS}:
            assert float(theirs[term]) == pytest.approx(float(mine[term]), rel=1e-4, abs=1e-4), term
    one, two = (load_file(run / "weights.safetensors") for run in (alone, folder / strategy))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), rtol=0, atol=2e-3, msg=name)
