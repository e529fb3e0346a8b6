"""Skipping a module whose package is not installed, without importing it: every worker collects all modules."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(package: str, reason: str) -> None:
    """As `pytest.importorskip` at the head of a module, for packages whose import takes seconds."""
    if find_spec(package) is None:
        pytest.skip(f"could not import '{package}': {reason}", allow_module_level=True)
