"""The server's one temporary folder: uploads and results lie in it, a while, and it goes when the server does."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenface.formats.files import discard, output_error


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


@contextmanager
def work_folder() -> Iterator[WorkFolder]:
    """A fresh folder, which everything in this process that makes temporary files uses too; removed at the end.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        root = Path(tempfile.mkdtemp(prefix="tokenface-serve-"))
    except OSError as error:
        raise output_error(Path(tempfile.gettempdir()), error) from error
    before, tempfile.tempdir = tempfile.tempdir, str(root)
    try:
        yield WorkFolder(root)
    finally:
        tempfile.tempdir = before
        shutil.rmtree(root, ignore_errors=True)
