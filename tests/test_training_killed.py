"""SIGKILL at random moments: the state is always whole, and the run ends with the numbers of an unbroken one."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import toy_backbone  # noqa: F401 (its networks)
from copied_processes import Copies, alive, copies
from safetensors import safe_open
from safetensors.torch import load_file

from tokenface.training.metrics import TIMINGS, read_curve
from tokenface.training.run import train

STEPS = 8
TINY = (
    "run.threads=1", "run.device=cpu", f"run.steps={STEPS}", "run.batch=4", "run.log_every=1", "run.checkpoint_every=2",
    "run.validate_every=1000", "run.validation_people=1", "network.backbone=vit_toy", "network.image_size=48",
    "synthetic.block=2", "synthetic.fresh_per_step=1", "synthetic.ring=100", "synthetic.warm_start=4",
    "data.rendered_people=4", "data.rendered_pictures=2", "data.share=0.5", "data.workers=1", "data.scan_share=1",
    "paper.mode=3d",
)  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_run_that_is_killed_again_and_again_ends_like_an_unbroken_one(tmp_path):
    whole = train(None, [*TINY, f"run.folder={tmp_path}", "run.name=whole"], report=lambda line: None)
    folder, moments = tmp_path / "killed", random.Random(5)
    fresh = [*TINY, f"run.folder={tmp_path}", "run.name=killed"]
    with copies("toy_backbone, tokenface.cli, tokenface.training.run") as processes:
        for rows in (1, 6):
            resumes = (folder / "config.yaml").is_file()
            arguments = ["train", *(["--resume", str(folder)] if resumes else fresh)]
            _killed_after(processes, arguments, folder, rows, moments.uniform(0, 0.4))
            if (folder / "state.safetensors").is_file():
                with safe_open(str(folder / "state.safetensors"), framework="pt") as state:
                    assert "ema.component_tokens" in state.keys()  # noqa: SIM118 (not a dict)
    rows = read_curve(folder / "train.csv")
    assert 6 <= len(rows) <= STEPS
    again = train(resume=folder, report=lambda line: None)
    expected, found = read_curve(whole.parent / "train.csv"), read_curve(folder / "train.csv")
    expected, found = ([{**row, **dict.fromkeys(TIMINGS)} for row in rows] for rows in (expected, found))
    assert found == expected
    one, two = load_file(whole), load_file(again)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=0, msg=name)


def _killed_after(processes: Copies, arguments: list[str], folder: Path, rows: int, seconds: float) -> None:
    """Start the command line, and kill it without warning some time after it wrote so many rows of its curve."""
    errors = folder.parent / "errors.txt"
    process = processes.start(f"sys.exit(tokenface.cli.run({arguments}))", errors)
    deadline = time.monotonic() + 300
    while alive(process) and len(read_curve(folder / "train.csv")) < rows:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(seconds)
    if alive(process):
        os.kill(process, signal.SIGKILL)
    assert processes.ended() == -signal.SIGKILL, errors.read_text()[-2000:]  # it was alive when it was killed
