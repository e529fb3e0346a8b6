"""Our parts beside other people's, on the same pixels, by turns in one process: `python -m benchmarks.peers`.

python -m benchmarks.peers [--rounds 9] [--threads 1] [--weights NAME] [--groups NAME,NAME] [--sim3dr FOLDER]
                           [--clock processor|wall] [--json FILE]

Every round calls each candidate of a group once, one after the other, and makes one ratio of each pair, so that a
machine that is busy for a while makes all of them slow together. The table has the median of the ratios and their
quartiles. Processor time of all threads of this process by default. Networks of others have random weights: they cost
the same. What is not installed is named with its reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers_candidates import GROUPS, Pair, Sizes, Skipped


@dataclass(frozen=True)
class Row:
    """Cost of ours over theirs: median and quartiles over the rounds, or why there is none."""

    group: str
    what: str
    aim: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    ours_ms: float | None = None
    theirs_ms: float | None = None
    skipped: str = ""

    def line(self) -> str:
        """A line of the table."""
        if self.ratio is None:
            return f"| {self.what} | skipped: {self.skipped} | {self.aim} | |"
        spread = f"**{self.ratio:.2f}** ({self.low:.2f}–{self.high:.2f})"
        return f"| {self.what} | {spread} | {self.aim} | {self.ours_ms:.2f} / {self.theirs_ms:.2f} ms |"


HEAD = "| ours over theirs | ratio, median (quartiles) | aim | medians |\n| --- | --- | --- | --- |"


def compare(
    group: str, pairs: Sequence[Pair | Skipped], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[Row]:
    """The rows of one group; candidates that several pairs share are called once a round."""
    candidates = {id(run): run for pair in pairs if isinstance(pair, Pair) for run in (pair.ours, pair.theirs)}
    times: dict[int, list[float]] = {key: [] for key in candidates}
    for number in range(rounds + 1):
        for key, run in candidates.items():
            start = clock()
            run()
            if number:  # the first round loads and compiles
                times[key].append(max(clock() - start, 1e-9))
    rows = []
    for pair in pairs:
        if isinstance(pair, Skipped):
            rows.append(Row(group, pair.what, pair.aim, skipped=pair.reason))
            continue
        ours, theirs = np.array(times[id(pair.ours)]) / pair.count, np.array(times[id(pair.theirs)]) / pair.their_count
        low, middle, high = np.quantile(ours / theirs, [0.25, 0.5, 0.75])
        medians = 1000 * float(np.median(ours)), 1000 * float(np.median(theirs))
        rows.append(Row(group, pair.what, pair.aim, float(middle), float(low), float(high), *medians))
    return rows


def table(
    groups: Sequence[str], sizes: Sizes, rounds: int, clock: Callable[[], float] = time.process_time
) -> Iterator[Row]:
    """Rows of the groups, each measured when it is asked for. A group that fails is a row that says why."""
    for name in groups:
        try:
            with GROUPS[name](sizes) as pairs:
                yield from compare(name, pairs, rounds, clock)
        except Exception as error:  # the others are measured all the same
            yield Row(name, name, "", skipped=f"{type(error).__name__}: {str(error).splitlines()[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights")
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("--sim3dr", type=Path, help="folder of 3DDFA_V2, whose Sim3DR is built")
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.groups.split(",")
    if unknown := sorted(set(names) - set(GROUPS)):
        raise SystemExit(f"no group '{unknown[0]}'; there are {', '.join(GROUPS)}")
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "processor" else time.perf_counter
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds, {options.clock} time")
    print(HEAD)
    rows = []
    for row in table(names, Sizes(weights=options.weights, sim3dr=options.sim3dr), options.rounds, clock):
        print(row.line(), flush=True)
        rows.append(row)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if any(row.ratio is None and row.what in GROUPS for row in rows):
        sys.exit("a group failed; its reason is in the table")


if __name__ == "__main__":
    main()
