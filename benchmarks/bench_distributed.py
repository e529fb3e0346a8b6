"""Two processes (gloo, CPU) against one with the whole batch: how far apart their losses are, step by step.

python -m benchmarks.bench_distributed [--steps 24]

Training amplifies every rounding: the same sums in another order give other last digits, and those other losses some
steps later. So two processes are compared with one process in one pass, and with one that passes twice over the very
halves that the two processes have, which rounds as they do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.runs import SMALL, alone, finish, together
from tokenface.training.metrics import TIMINGS, read_curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    common = [*SMALL, f"run.steps={options.steps}", "run.checkpoint_every=100000", "run.batch=16", "data.workers=0"]
    with tempfile.TemporaryDirectory() as temporary:
        own = [*common, f"run.folder={temporary}"]
        finish(alone([*own, "run.name=one-pass"]))
        finish(alone([*own, "run.name=two-passes", "run.accumulate=2"]))
        for name in ("ddp", "fsdp"):
            together([*own, f"run.name={name}", f"run.strategy={name}"], 2)
        curves = {
            name: read_curve(Path(temporary) / name / "train.csv") for name in ("one-pass", "two-passes", "ddp", "fsdp")
        }
    print(f"{options.steps} steps, batch 16; largest relative difference of the total loss, and of the worst term")
    for mine, theirs in (
        ("ddp", "two-passes"),
        ("ddp", "one-pass"),
        ("fsdp", "two-passes"),
        ("fsdp", "one-pass"),
        ("two-passes", "one-pass"),
    ):
        print(f"{mine} against {theirs}: {compared(curves[theirs], curves[mine])}", flush=True)


def compared(one: list[dict[str, str]], two: list[dict[str, str]]) -> str:
    terms = [key for key in one[0] if key not in ("step", *TIMINGS)]
    apart = {term: [difference(a[term], b[term]) for a, b in zip(one, two, strict=True)] for term in terms}
    worst = max(apart, key=lambda term: max(apart[term]))
    early = max(apart["total"][:10])
    return f"{max(apart['total']):.1e} ({early:.1e} in 10 steps); {worst} {max(apart[worst]):.1e}"


def difference(a: str, b: str) -> float:
    return abs(float(b) - float(a)) / max(1.0, abs(float(a)))


if __name__ == "__main__":
    main()
