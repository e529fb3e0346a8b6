"""The wheel's weights with their halves apart (`tokenface/core/halves.py`): 3 MB less to download, the same numbers.

A clone and an editable install keep the plain files.
"""

from __future__ import annotations

import importlib.util
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEIGHTS = Path("src/tokenface/assets/weights")


class ApartHalves(BuildHookInterface):
    """Puts the changed files in the place of the plain ones."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        path = root / "src/tokenface/core/halves.py"
        spec = importlib.util.spec_from_file_location("halves", path)
        halves = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(halves)
        self.scratch = tempfile.TemporaryDirectory()
        left_out = self.build_config.target_config.get("exclude", [])
        for file in sorted((root / WEIGHTS).glob("*.safetensors")):
            if any(fnmatch(file.name, pattern) for pattern in left_out):
                continue
            data = halves.apart(file.read_bytes())
            if data is not None:
                changed = Path(self.scratch.name) / file.name
                changed.write_bytes(data)
                build_data["force_include"][str(changed)] = f"tokenface/assets/weights/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self.scratch.cleanup()
