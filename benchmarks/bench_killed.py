"""SIGKILL at random moments of a small run, each time resumed: what is lost, and whether the end is the same.

python -m benchmarks.bench_killed [--kills 10] [--steps 40] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from benchmarks.runs import SMALL, alone, finish
from tokenface.training.metrics import TIMINGS, read_curve

INTERVAL, BATCH = 2, 8
"""Steps between checkpoints; pictures of a step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    common = [
        *SMALL,
        f"run.steps={options.steps}",
        f"run.checkpoint_every={INTERVAL}",
        f"run.batch={BATCH}",
        "data.workers=1",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "killed"
        finish(alone([*common, f"run.folder={temporary}", "run.name=whole"]))
        step_seconds = BATCH / float(read_curve(Path(temporary) / "whole" / "train.csv")[-1]["images_per_s"])
        targets = sorted(moments.uniform(0, options.steps - 2) for _ in range(options.kills))
        damaged = too_much = 0
        for number, target in enumerate(targets, 1):
            begun = (folder / "config.yaml").is_file()
            run = alone(resume=folder) if begun else alone([*common, f"run.folder={temporary}", "run.name=killed"])
            done = killed_at(run, folder, target, step_seconds)
            kept = saved_step(folder)
            damaged += kept is None
            too_much += done - (kept or 0) > INTERVAL
            print(f"kill {number}: after step {done}, state of step {kept}", flush=True)
        finish(alone(resume=folder))
        same_curve, same_weights = compared(Path(temporary) / "whole", folder)
        print(f"{options.kills} kills in {options.steps} steps, a checkpoint every {INTERVAL} steps")
        print(f"lost or damaged checkpoints: {damaged}; more than one interval lost: {too_much} times")
        print(f"curves of all steps identical: {same_curve}; final weights identical to the bit: {same_weights}")


def killed_at(run: BaseProcess, folder: Path, target: float, step_seconds: float) -> int:
    """Kill once the curve has gone on and passed the whole part of `target`, the rest of it into the next step.

    Returns:
        the last step of the curve.
    """
    before = steps_done(folder)
    while run.is_alive() and steps_done(folder) == before:  # it starts
        time.sleep(0.01)
    while run.is_alive() and steps_done(folder) < int(target):
        time.sleep(0.01)
    time.sleep(target % 1 * step_seconds)
    if not run.is_alive():
        raise SystemExit(f"the run ended before it was killed, with exit code {run.exitcode}")
    run.kill()
    run.join()
    return steps_done(folder)


def steps_done(folder: Path) -> int:
    rows = read_curve(folder / "train.csv")
    return int(rows[-1]["step"]) if rows else 0


def saved_step(folder: Path) -> int | None:
    """Step of the state on disk, every tensor of which is read; 0 before the first one, None if it is damaged."""
    path = folder / "state.safetensors"
    if not path.is_file():
        return 0
    try:
        load_file(path)
        with safe_open(str(path), framework="pt") as state:
            return json.loads((state.metadata() or {})["progress"])["step"]
    except (SafetensorError, KeyError, ValueError):
        return None


def compared(whole: Path, killed: Path) -> tuple[bool, bool]:
    """Whether curves (but for the speed) and weights are the same."""
    curves = [
        [{**row, **dict.fromkeys(TIMINGS)} for row in read_curve(folder / "train.csv")] for folder in (whole, killed)
    ]
    one, two = (load_file(folder / "weights.safetensors") for folder in (whole, killed))
    return curves[0] == curves[1], one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


if __name__ == "__main__":
    main()
