"""Safetensors files, their size known before they are mapped into memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from safetensors import safe_open

from tokenface.core.regular import check_regular

MAX_BYTES = 64 << 30


@contextmanager
def open_tensors(path: str | os.PathLike, framework: Literal["pt", "np"] = "pt") -> Iterator[Any]:
    """`safe_open` of a regular file.

    Raises:
        OSError: as `check_regular`, or the system cannot map the file.  SafetensorError: no safetensors file.
    """
    check_regular(path, MAX_BYTES)
    with ExitStack() as opened:
        try:
            file = opened.enter_context(safe_open(os.fspath(path), framework=framework))
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "there is not enough memory to map it", os.fspath(path)) from error
        yield file
