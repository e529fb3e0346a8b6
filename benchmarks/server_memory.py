"""Memory of a real server over many requests, one after another: JSON 4 : GLB 1 : ZIP 1, small photos.

python -m benchmarks.server_memory [--requests 400] [--every 250] [--minutes 120] [--lines memory.jsonl] [--no-page]

A line is told, and appended to --lines, at the start, every --every requests and at the end: whatever stops the run,
what was measured is there. Every answer's status and first bytes are checked; the exit code is 1 where one was wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.bench_server import GOOD, MIXTURE, enlarged, send, server
from benchmarks.hostile import Upload, form
from tokenface.jobs.examples import example_photos

SIDE = 320
"""Pixels of a small photo."""


class Measured(Protocol):
    """A server. memory, own_memory: megabytes.  cpu: seconds so far."""

    @property
    def memory(self) -> float: ...
    @property
    def own_memory(self) -> float: ...
    @property
    def cpu(self) -> float: ...


def watch(
    running: Measured,
    ask: Callable[[int, str], tuple[int, bytes]],
    requests: int,
    every: int,
    tell: Callable[[dict[str, float]], object],
    seconds: float = float("inf"),
) -> Counter[str]:
    """Requests one after another, until there were enough, the time is over, or nobody answers any more.

    Args:
        ask: the number of a request and its format → status (0: no answer) and body.
        tell: told a line at the start, every so many requests and at the end.
    Returns:
        How many answers were "right", and how many wrong, by what was wrong.
    """
    seen: Counter[str] = Counter()
    begin, cpu, done = time.monotonic(), running.cpu, 0

    def line() -> None:
        tell(
            {
                "requests": done,
                "resident_mb": round(running.memory, 1),
                "unshared_mb": round(running.own_memory, 1),
                "seconds": round(time.monotonic() - begin, 1),
                "processor_ms": round(1000 * (running.cpu - cpu) / max(done, 1), 1),
                "wrong": done - seen["right"],
            }
        )

    line()
    while done < requests and time.monotonic() - begin < seconds:
        wanted = MIXTURE[done % len(MIXTURE)]
        status, body = ask(done, wanted)
        right = status == 200 and body.startswith(GOOD[wanted])
        seen["right" if right else f"{wanted}: {status} {body[:80]!r}"] += 1
        done += 1
        if status == 0:
            break
        if done % every == 0 and done < requests:
            line()
    line()
    return seen


def slope(lines: Sequence[dict[str, float]]) -> float | None:
    """Megabytes of resident memory per 1,000 requests over the second half of the lines; None where they are few."""
    half = lines[len(lines) // 2 :]
    if len(half) < 3:
        return None
    counts, resident = ([line[name] for line in half] for name in ("requests", "resident_mb"))
    return 1000 * statistics.linear_regression(counts, resident).slope


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args(arguments)
    photos = [enlarged(photo, SIDE) for _, photo in sorted(example_photos().items())]
    lines: list[dict[str, float]] = []

    def tell(line: dict[str, float]) -> None:
        lines.append(line)
        text = json.dumps(line)
        print(text, flush=True)
        if options.lines is not None:
            with options.lines.open("a") as file:
                file.write(text + "\n")

    mixture = " : ".join(f"{form} {count}" for form, count in Counter(MIXTURE).items())
    print(f"{options.requests} requests, one after another, {mixture}; photos of {SIDE} pixels", flush=True)
    with server(photos[0], *(["--no-page"] if options.no_page else [])) as running:
        while send(running.port, Upload("", b"", method="GET"), "/readyz")[0] == 503:
            time.sleep(0.2)

        def ask(number: int, wanted: str) -> tuple[int, bytes]:
            photo = form("", photos[number % len(photos)])
            return send(running.port, photo, f"/v1/reconstruct?format={wanted}")[:2]

        seen = watch(running, ask, options.requests, options.every, tell, 60 * options.minutes)
        print(f"files left: {running.left_files() or 'none'}")
    growth = slope(lines)
    if growth is not None:
        print(f"resident memory over the second half: {growth:+.0f} MB per 1,000 requests")
    wrong = {what: count for what, count in seen.items() if what != "right"}
    print(f"right answers: {seen['right']}; wrong: {wrong or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
