"""What one GPU gives, in ten minutes: tests, matrix rate, generator, training, reconstruction, a piece of tokenface-b.

python -m benchmarks.gpu [--out out/gpu] [--sections NAME,NAME] [--again] [--minutes 10] [--dry-run]

Every section runs in a process of its own and leaves its figures in OUT/SECTION.json at once, so that one that fails,
or a machine that goes away, costs that section alone; the next call does what is missing (`--again`: everything).
OUT/gpu.json and OUT/gpu.md hold all of them. The section `train` takes what is left of the minutes, and goes on with
the same run at the next call. --dry-run does all of it at toy size on a CPU: it says that the script works, no more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu_sections import SECTIONS, Setting
from tokenface.core.files import write_atomically

SECONDS = {"device": 60, "tests": 150, "generator": 90, "training": 150, "reconstruct": 120}
"""At most so long; `train` gets the rest."""
SPARE = 20
"""Seconds at the end for stopping a run and writing the tables."""

Runner = Callable[[str, Setting], dict]


def measure(setting: Setting, sections: Sequence[str], run: Runner, minutes: float, again: bool = False) -> dict:
    """Every section's figures, {"error": …} where it failed; sections with figures are not measured again.

    Args:
        run: measures one section, in whatever process; what it raises is that section's error.
    """
    end = time.monotonic() + 60 * minutes - SPARE
    for name in sections:
        file = setting.out / f"{name}.json"
        done = json.loads(file.read_text()) if file.is_file() else {"error": "not measured"}
        if "error" not in done and not again and name != "train":
            continue
        left = end - time.monotonic()
        try:
            if left < 10:
                raise TimeoutError("no time was left; call the script again")
            figures = run(name, setting.lasting(left if name == "train" else min(left, SECONDS[name])))
        except Exception as error:  # whatever it was, the other sections are measured
            figures = {"error": f"{type(error).__name__}: {str(error).strip()[-600:]}"}
        write_atomically(file, json.dumps(figures, indent=1).encode())
        print(f"{name}: {json.dumps(figures)}", flush=True)
        write_tables(setting.out)
    return write_tables(setting.out)


def write_tables(out: Path) -> dict:
    """OUT/gpu.json and OUT/gpu.md of the sections that are there; returns the former's content."""
    files = {name: out / f"{name}.json" for name in SECTIONS}
    figures = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    rows = [
        f"| {name} | {what.replace('_', ' ')} | {value} |"
        for name, values in figures.items()
        for what, value in values.items()
    ]
    table = "\n".join(["| section | what | figure |", "| --- | --- | --- |", *rows, ""])
    write_atomically(out / "gpu.json", json.dumps(figures, indent=1).encode())
    write_atomically(out / "gpu.md", table.encode())
    return figures


def in_own_process(name: str, setting: Setting) -> dict:
    """One section in a process that ends with it: a CUDA error leaves nothing usable behind."""
    answer = setting.out / f"{name}.answer"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(setting.out), "--one", name]
    command += ["--minutes", str(setting.seconds / 60), *(["--dry-run"] if setting.dry else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=setting.seconds + SPARE)
    if done.returncode or not answer.is_file():
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    figures = json.loads(answer.read_text())
    answer.unlink()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--one", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    setting = Setting(options.out, options.dry_run, 60 * options.minutes)
    if options.one:
        answer = json.dumps(SECTIONS[options.one](setting)).encode()
        write_atomically(options.out / f"{options.one}.answer", answer)
        return
    names = options.sections.split(",")
    if unknown := sorted(set(names) - set(SECTIONS)):
        raise SystemExit(f"no section '{unknown[0]}'; there are {', '.join(SECTIONS)}")
    figures = measure(setting, names, in_own_process, options.minutes, options.again)
    if any("error" in values for values in figures.values()):
        raise SystemExit("some sections failed; their errors are in the table")


if __name__ == "__main__":
    main()
