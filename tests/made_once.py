"""Files that every worker of pytest-xdist needs and only one makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills in the worker that comes first; the others wait for it and read it.

    Args:
        name: of the folder, one for each kind of content.
    """
    own = factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()  # one that is there was left by a worker that failed
            make(folder)
            done.touch()
    return folder
