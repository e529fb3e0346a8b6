"""Two processes (gloo, CPU) against one with the whole batch: how far apart their losses are, step by step.

python -m benchmarks.bench_distributed [--steps 24]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.runs import SMALL, alone, finish, together
from tokenface.training.metrics import TIMINGS, read_curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    common = [*SMALL, f"run.steps={options.steps}", "run.checkpoint_every=100000", "run.batch=16", "data.workers=0"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        finish(alone([*common, f"run.folder={folder}", "run.name=one"]))
        for name in ("ddp", "fsdp"):
            together([*common, f"run.folder={folder}", f"run.name={name}", f"run.strategy={name}"], 2)
        one = read_curve(folder / "one" / "train.csv")
        print(f"{options.steps} steps, batch 16; total loss {one[0]['total']} → "
              f"{one[-1]['total']}")  # fmt: skip
        weights = load_file(folder / "one" / "weights.safetensors")
        for name in ("ddp", "fsdp"):
            two = read_curve(folder / name / "train.csv")
            terms = [key for key in one[0] if key not in ("step", *TIMINGS)]
            apart = {
                term: max(abs(float(b[term]) - float(a[term])) / max(1.0, abs(float(a[term])))
                          for a, b in zip(one, two, strict=True))
                for term in terms
            }  # fmt: skip
            total = [abs(float(b["total"]) / float(a["total"]) - 1) for a, b in zip(one, two, strict=True)]
            worst = max(apart, key=lambda term: apart[term])
            print(f"{name}: total loss at most {max(total):.1e} apart (relative), {max(total[:5]):.1e} in the first 5 "
                  f"steps; of {len(terms)} terms the worst is {worst}, {apart[worst]:.1e}")  # fmt: skip
            other = load_file(folder / name / "weights.safetensors")
            difference = max(float((other[key].float() - value.float()).abs().max()) for key, value in weights.items())
            size = max(float(value.float().abs().max()) for value in weights.values() if torch.is_floating_point(value))
            print(f"{name}: averaged weights (fp16) at most {difference:.1e} apart; the largest weight is {size:.2f}")


if __name__ == "__main__":
    main()
