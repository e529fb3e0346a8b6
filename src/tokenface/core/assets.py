"""Shipped files that several rooms read."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

RECOGNITION = "tokenface-recognition"
"""Name of the recognition network, whose features the network reads."""


def recognition_path() -> Path:
    """The recognition network's file."""
    return Path(str(resources.files("tokenface"))) / "assets" / "weights" / f"{RECOGNITION}.safetensors"
