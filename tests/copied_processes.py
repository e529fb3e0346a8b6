"""Processes for tests that kill them: each is a copy of an interpreter that has imported what it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import tokenface

ORIGINAL = """
import json, os, sys, {imports}
for line in sys.stdin:
    code, errors = json.loads(line)
    if (child := os.fork()) == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        exec(code)
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Copies:
    """Starts one process at a time.

    Args:
        original: running `ORIGINAL`.
    """

    def __init__(self, original: subprocess.Popen[str]) -> None:
        self._original = original
        self._running: int | None = None

    def start(self, code: str, errors: Path) -> int:
        """The number of a new process that runs the code and writes what it says to a file."""
        self._original.stdin.write(json.dumps([code, str(errors)]) + "\n")
        self._original.stdin.flush()
        self._running = int(self._original.stdout.readline())
        return self._running

    def ended(self) -> int:
        """Wait for the process; its exit code, negative is a signal's number."""
        code = int(self._original.stdout.readline())
        self._running = None
        return code

    def close(self) -> None:
        if self._running is not None and alive(self._running):  # a test that failed
            os.kill(self._running, signal.SIGKILL)


@contextmanager
def copies(imports: str) -> Iterator[Copies]:
    """Copies of an interpreter that has imported these modules, one thread in each library."""
    places = [str(Path(tokenface.__file__).parents[1]), str(Path(__file__).parent)]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", ORIGINAL.format(imports=imports)]
    with (
        subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as original,
        closing(Copies(original)) as made,
    ):
        yield made


def alive(process: int) -> bool:
    """Whether a process of `Copies`, which are waited for, still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
