"""Regular files only, their size known before a byte is read: devices, pipes and sparse giants are refused."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

GIGABYTE = 1 << 30
MAX_TEXT = 64 << 20
"""Bytes of a JSON or YAML file."""
MAX_DEPTH = 100
"""Levels of nesting in a JSON document."""


def check_regular(path: str | os.PathLike, limit: int) -> int:
    """Size of a regular file in bytes, or of what a link leads to; nothing is opened, so nothing can block.

    Args:
        limit: bytes that are still accepted.
    Raises:
        OSError: missing, a folder, a device, pipe or socket, or larger than `limit`; `strerror` says which.
    """
    return _accepted(os.stat(path), path, limit)


def read_regular(path: str | os.PathLike, limit: int) -> bytes:
    """Content of a regular file.

    Raises:
        OSError: as `check_regular`, or the file cannot be read.
    """
    check_regular(path, limit)
    # What the name leads to may have been exchanged since: opened without waiting, and looked at again.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        _accepted(os.fstat(file.fileno()), path, limit)
        data = file.read(limit + 1)
    if len(data) > limit:  # files of /proc say 0 and grow
        raise _too_large(len(data), path, limit)
    return data


def read_text(path: str | os.PathLike, limit: int = MAX_TEXT) -> str:
    """Content of a UTF-8 file.

    Raises:
        OSError: as `read_regular`.  ValueError: not UTF-8.
    """
    return read_regular(path, limit).decode("utf-8")


def read_json(path: str | os.PathLike, limit: int = MAX_TEXT) -> Any:
    """Document of a JSON file, as `parse_json`.

    Raises:
        OSError: as `read_regular`.  ValueError: as `parse_json`.
    """
    return parse_json(read_regular(path, limit))


def parse_json(text: str | bytes) -> Any:
    """JSON without NaN or infinity (RFC 8259 knows neither), of bounded depth.

    Raises:
        ValueError: not JSON, not finite, nested deeper than `MAX_DEPTH`, numbers of thousands of digits.
    """
    try:
        document = json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _depth(document) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return document


def _accepted(status: os.stat_result, path: str | os.PathLike, limit: int) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device, pipe or socket, expected a file", os.fspath(path))
    if status.st_size > limit:
        raise _too_large(status.st_size, path, limit)
    if status.st_size > GIGABYTE and getattr(status, "st_blocks", status.st_size) * 512 < status.st_size // 10:
        raise OSError(errno.EINVAL, "it is mostly holes, expected a file with content", os.fspath(path))
    return status.st_size


def _too_large(size: int, path: str | os.PathLike, limit: int) -> OSError:
    reason = f"it has {size / 1e6:,.1f} MB, more than the limit of {limit / 1e6:,.1f}"
    return OSError(errno.EFBIG, reason, os.fspath(path))


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _not_finite(digits)


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"the number {name[:20]} is not finite")


def _depth(document: Any) -> int:
    level, depth = [document], 0
    while level := [child for part in level if isinstance(part, dict | list) for child in _children(part)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
    return depth


def _children(part: dict | list) -> Any:
    return part.values() if isinstance(part, dict) else part


def reason(error: BaseException) -> str:
    """One line for a message: what the operating system or a parser said."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def file_size(path: Path) -> int:
    """Bytes; 0 where nothing lies."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
