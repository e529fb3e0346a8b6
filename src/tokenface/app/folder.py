"""Temporary folder of one server: uploads and results, removed with it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tokenface.core.files import discard, output_error

PREFIX = "tokenface-serve-"
UNLOCKED_SECONDS = 3600.0
"""After which a folder without a lock beside it is nobody's: a server makes the folder first."""


class WorkFolder:
    """root: the folder.  uploads: below it, swept by `tidy`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uploads = root / "uploads"
        self.uploads.mkdir(exist_ok=True)

    def new(self) -> Path:
        """An empty folder below `uploads`."""
        return Path(tempfile.mkdtemp(dir=self.uploads))

    def tidy(self, seconds: float, limit: int) -> None:
        """Remove files that are older than `seconds`, then the oldest ones until `limit` bytes are left."""
        files = []
        for path in self.uploads.rglob("*"):
            try:
                if path.is_file() and not path.is_symlink():
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
            except OSError:
                continue  # somebody else removed it
        total = sum(size for _, size, _ in files)
        for changed, size, path in sorted(files, key=lambda entry: entry[0]):
            if time.time() - changed > seconds or total > limit:
                discard(path)
                total -= size
        self._remove_empty(seconds)

    def _remove_empty(self, seconds: float) -> None:
        for path in sorted(self.uploads.rglob("*"), reverse=True):
            try:
                if path.is_dir() and time.time() - path.stat().st_mtime > seconds:
                    path.rmdir()
            except OSError:
                continue  # in use, or not empty


def _sweep(parent: Path) -> None:
    """Remove folders of servers that were killed before they could."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and _is_ours(status) and _abandoned(_lock_of(folder), status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)
                discard(_lock_of(folder))
        except OSError:
            continue  # somebody else removed it


def _is_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def _lock_of(root: Path) -> Path:
    """The file that a server holds locked while it lives; the system lets go of it, however the process ends."""
    return root.with_name(f"{root.name}.lock")


def _abandoned(lock: Path, changed: float) -> bool:
    try:
        with lock.open("r+b") as file:
            return _locked(file)
    except FileNotFoundError:
        return time.time() - changed > UNLOCKED_SECONDS


def _locked(file: IO[bytes]) -> bool:
    """Lock an open file if nobody else has; it is free again when the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def work_folder() -> Iterator[WorkFolder]:
    """A fresh folder, which everything in this process that makes temporary files uses too; removed at the end. Folders
    that killed servers left are removed at the beginning.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        _sweep(Path(tempfile.gettempdir()))
        root = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock_of(root).open("xb")
    except OSError as error:
        raise output_error(Path(tempfile.gettempdir()), error) from error
    before, tempfile.tempdir = tempfile.tempdir, str(root)
    with lock:
        _locked(lock)
        try:
            yield WorkFolder(root)
        finally:
            tempfile.tempdir = before
            shutil.rmtree(root, ignore_errors=True)
            discard(_lock_of(root))
