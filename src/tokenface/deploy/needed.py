"""Packages of the extra 'deploy', imported when they are used."""

from __future__ import annotations

from typing import Any

from tokenface.errors import TokenFaceError


def needed(package: str) -> Any:
    """The package, or one line that says how to get it."""
    try:
        return __import__(package)
    except ImportError as error:
        raise TokenFaceError(f"this needs the '{package}' package; run pip install 'tokenface[deploy]'") from error
