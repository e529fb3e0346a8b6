"""Shared fixtures: where optional data lives, and skipping with a reason when it is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of research data that is not part of the project; TOKENFACE_SHARED names it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("TOKENFACE_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared research data (set TOKENFACE_SHARED to its folder)")
    return folder
