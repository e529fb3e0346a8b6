"""Provenance of a run: code version, libraries, devices."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path, PureWindowsPath
from typing import Any

import torch

from tokenface.core.files import write_atomically
from tokenface.version import __version__

LIBRARIES = ("torch", "lightning-fabric", "numpy", "timm", "safetensors", "numba", "opencv-python-headless")


def code_version() -> dict[str, Any]:
    """The package's version, and the commit where it runs from a git checkout (`changed`: with changes on top)."""
    facts: dict[str, Any] = {"version": __version__}
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is not None and _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is not None:
        facts["commit"] = commit
        facts["changed"] = bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", "."))
    return facts


def environment(device: torch.device, processes: int, precision: str) -> dict[str, Any]:
    """Environment of a run: whatever may change its numbers or its speed."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "code": code_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": precision,
    }


def without_folders(value: Any) -> Any:
    """A configuration whose absolute paths are bare names: weights travel, and tell nobody about a disk."""
    if isinstance(value, str):
        path = PureWindowsPath(value)  # knows both kinds of slashes
        return path.name if path.root else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: without_folders(getattr(value, name)) for name in names})
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_folders(item) for item in value)
    return value


def note_start(folder: Path, facts: dict[str, Any], step: int) -> None:
    """Add this start to `environment.json`, which lists all starts of a run."""
    path = folder / "environment.json"
    starts = []
    if path.is_file():
        try:
            starts = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            starts = []  # a note for people; not worth a failed run
    write_atomically(path, (json.dumps([*starts, {"step": step, **facts}], indent=2) + "\n").encode())


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
