"""LiteRT's remark about XNNPACK, which no setting turns off, kept from stderr; whatever else is written there stays."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REMARK = b"INFO: Created TensorFlow Lite"
STDERR = 2
_lock = threading.Lock()


@contextmanager
def without_remark() -> Iterator[None]:
    """What native code writes to stderr during the block comes out at its end, less the remark."""
    with _lock, tempfile.TemporaryFile() as kept:
        try:
            real = os.dup(STDERR)
        except OSError:  # no stderr at all
            yield
            return
        try:
            os.dup2(kept.fileno(), STDERR)
            yield
        finally:
            os.dup2(real, STDERR)
            os.close(real)
            kept.seek(0)
            rest = b"".join(line for line in kept if not line.startswith(REMARK))
            if rest:
                os.write(STDERR, rest)
