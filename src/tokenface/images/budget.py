"""Memory of decoding, counted for the whole process: pictures that do not fit together wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DECODING_BYTES = 3 << 30
"""Memory of all pictures that are being decoded at a time; one that needs more is decoded alone."""


class Budget:
    """Bytes that may be in use together. total: of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Wait until `count` bytes are free, or nobody else holds any, and hold them during the block."""
        with self._changed:
            self._changed.wait_for(lambda: self.used == 0 or self.used + count <= self.total)
            self.used += count
        try:
            yield
        finally:
            with self._changed:
                self.used -= count
                self._changed.notify_all()


decoding = Budget(DECODING_BYTES)
"""The process's own."""
