"""What has a name and is no file, and a way to notice that somebody waits for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 20


@contextmanager
def in_time() -> Iterator[None]:
    """A reader that waits for a pipe fails instead of stopping the tests."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"it still waits after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
