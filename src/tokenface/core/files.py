"""Writing files so that nobody ever finds half of one: a `.part` file in the same folder, then a rename."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenface.errors import OutputError


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path`, or leave what was there untouched.

    Raises:
        OutputError: no permission, disk full, a folder in the way, a name that the file system refuses.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            # Some file systems report a full disk only when the data is really written.
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        discard(part)
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `.part` file to fill; it becomes `path` when the block ends well and is gone when it does not.

    Raises:
        OutputError: as `write_atomically`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        discard(part)


def read_marker(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of our own; None where there is none that can be read."""
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: no permission, a file in the way, disk full.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def output_error(path: Path, error: OSError) -> OutputError:
    """The operating system's refusal as one line that says how to mend it."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again (finished photos are kept)",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "no permission to write there; choose another folder with -o",
        errno.EPERM: "no permission to write there; choose another folder with -o",
        errno.EROFS: "the file system is read-only; choose another folder with -o",
        errno.EISDIR: "a folder has that name; choose another name",
        errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with -o",
        errno.EEXIST: "a file has that name; choose another folder with -o",
        errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    }.get(error.errno or 0, (error.strerror or str(error)).lower())
    return OutputError(f"cannot write '{path}': {advice}")


def discard(path: Path) -> None:
    """Remove a file if it is there; a failure to tidy up must not hide the error that led here."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
