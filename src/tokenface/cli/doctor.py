"""`tokenface doctor`: what an installation has, what it lacks, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenface.errors import TokenFaceError

State = Literal["good", "optional", "missing"]
MARKS: dict[State, str] = {"good": "ok", "optional": "--", "missing": "!!"}

PACKAGES = (
    "onnxruntime",
    "safetensors",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pi-heif",
    "pygltflib",
    "ai-edge-litert",
)
"""That photos need."""
FURTHER = {
    "torch": "--refine, --hair, clips, the server, training",
    "timm": "networks in torch",
    "numba": "the photo's skin, overlays and maps",
    "scipy": "the photo's skin",
    "trimesh": "scans and other meshes",
}
"""Packages of a usual installation, and what is not to be had in a light one that lacks them (docs/deploy.md)."""
OPTIONAL = {
    "triton": ("rasteriser on CUDA", "comes with torch on Linux"),
    "dlib": ("face detector without model files", "pip install 'tokenface[dlib]'"),
    "anny": ("rebuilding OpenHead", "pip install 'tokenface[head]'"),
    "av": ("video", "pip install 'tokenface[video]'"),
    "gradio": ("web page and HTTP API", "pip install 'tokenface[web]'"),
    "tensorboard": ("training curves", "pip install 'tokenface[train]'"),
    "ray": ("preparation on a cluster", "pip install 'tokenface[cluster]'"),
}


@dataclass(frozen=True)
class Finding:
    """One line: missing means that photos cannot be reconstructed, optional that something else cannot be done."""

    topic: str
    text: str
    state: State = "good"
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Findings about this installation; nothing is fetched or changed."""
    return [
        *_software(),
        *_devices(),
        *_weights(),
        *_heads(),
        *_detector(),
        *_optional(),
    ]


def _software() -> Iterator[Finding]:
    from tokenface.version import __version__

    yield Finding("tokenface", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    versions = []
    for name in (*PACKAGES, *FURTHER):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name in FURTHER:
                yield Finding("package", f"{name} is not installed: {FURTHER[name]}", "optional", f"pip install {name}")
            elif name != "opencv-python-headless" or importlib.util.find_spec("cv2") is None:
                yield Finding("package", f"{name} is not installed", "missing", f"pip install {name}")
    yield Finding("packages", ", ".join(versions))


def _devices() -> Iterator[Finding]:
    if not _with_torch():
        yield Finding("cpu", f"{os.cpu_count()} cores")
        return
    import torch

    yield Finding("cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU")
    else:
        yield Finding("gpu", "none; the CPU does it", "optional")


def _weights() -> Iterator[Finding]:
    from tokenface.weights import DEFAULT_WEIGHTS, WEIGHTS, WEIGHTS_VARIABLE, find_weights

    chosen = os.environ.get(WEIGHTS_VARIABLE)
    if chosen:
        yield _loadable(chosen, f"from {WEIGHTS_VARIABLE}, ")
    for name in WEIGHTS:
        if WEIGHTS[name].installed:
            yield _loadable(str(find_weights(name)), "shipped, ", name)
        else:
            needed = name == DEFAULT_WEIGHTS and not chosen
            remedy = f"tokenface train, or set {WEIGHTS_VARIABLE} to a checkpoint"
            yield Finding("weights", f"{name} is not installed", "missing" if needed else "optional", remedy)


def _loadable(path: str, prefix: str, name: str = "") -> Finding:
    from tokenface.weights import file_hash, find_weights

    try:
        file = find_weights(path)
        contents = _contents(file)
    except TokenFaceError as error:
        return Finding("weights", " ".join(str(error).split()), "missing")
    return Finding("weights", f"{name or file.stem}: {prefix}{contents}, hash {file_hash(file)}")


def _contents(file: Path) -> str:
    """Of weights, which are loaded where torch is there to do it."""
    if not _with_torch():
        from tokenface.inference.checkpoint_facts import read_metadata

        return f"head model {read_metadata(file)['head']['name']}"
    from tokenface.inference.checkpoint import load_checkpoint

    network, head, _ = load_checkpoint(file)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return f"{millions:.1f} M parameters, head model {head.name}"


def _with_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _heads() -> Iterator[Finding]:
    from tokenface.head.registry import DEFAULT_HEAD, list_heads

    entries = list_heads()
    for entry in entries:
        if entry.problem:
            yield Finding("head model", f"{entry.name}: {entry.problem}", "missing")
        else:
            yield Finding("head model", f"{entry.name}: {entry.where}, {entry.vertices} vertices, {entry.licence}")
    names = {entry.name for entry in entries}
    if DEFAULT_HEAD not in names:
        yield Finding("head model", f"{DEFAULT_HEAD} is not installed", "missing", "tokenface head build openhead")
    if not any(name.startswith("flame") for name in names):
        remedy = "download it from its authors, then: tokenface head add flame PATH"
        yield Finding("head model", "flame is not installed", "optional", remedy)


def _detector() -> Iterator[Finding]:
    from tokenface.images.models import MODEL_FILES, find_model, models_folder

    try:
        absent = [name for name in MODEL_FILES if find_model(name) is None]
    except TokenFaceError as error:
        yield Finding("face detector", str(error), "missing")
        return
    if not absent:
        yield Finding("face detector", f"all model files in {models_folder()}")
    else:
        remedy = "tokenface models fetch (or they are fetched with the first photo)"
        yield Finding("face detector", f"not fetched yet: {', '.join(absent)}", "optional", remedy)


def _optional() -> Iterator[Finding]:
    for module, (purpose, remedy) in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("optional", f"{module} ({purpose}) is not installed", "optional", remedy)
        else:
            yield Finding("optional", f"{module} ({purpose})")


def doctor() -> int:
    """Show what is installed, which models and devices there are, and how to get what is missing.

    Exit code 1 if something is missing that photos need.
    """
    from rich.table import Table
    from rich.text import Text

    from tokenface.cli.console import SOME_FAILED, SUCCESS, out

    console, findings = out(), diagnose()
    table = Table(box=None, pad_edge=False, show_header=False)
    colours = {"good": "green", "optional": "yellow", "missing": "red"}
    for finding in findings:
        mark = Text(MARKS[finding.state], style=colours[finding.state])
        table.add_row(mark, finding.topic, finding.text)
        if finding.remedy:  # a line of its own, to be copied
            table.add_row("", "", f"→ {finding.remedy}")
    console.print(table)
    missing = [finding for finding in findings if finding.state == "missing"]
    console.print(
        "ready for photos" if not missing else f"{len(missing)} missing: see the lines marked {MARKS['missing']}"
    )
    return SOME_FAILED if missing else SUCCESS
