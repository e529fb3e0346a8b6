"""Preconditions of commands, checked before heavy imports: files, packages of extras."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenface.errors import ConfigError, ImageError, VideoError

if TYPE_CHECKING:
    import typer

EXTRAS = {
    "av": ("video", "clips"),
    "pxr": ("usd", "USD files"),
    "pyarrow": ("tables", "tables"),
    "ray": ("cluster", "a Ray cluster"),
    "onnx": ("deploy", "exported files"),
    "onnxscript": ("deploy", "exported files"),
    "onnxruntime": ("deploy", "onnxruntime"),
    "openvino": ("deploy", "OpenVINO"),
    "fastapi": ("web", "the server"),
    "uvicorn": ("web", "the server"),
    "gradio": ("web", "the page"),
    "igl": ("evaluate", "distances to meshes"),
    "matplotlib": ("evaluate", "plots"),
}
"""Module: (the extra that brings it, what it is for)."""
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The module of each runtime that is not torch."""
EXPORTERS = ("onnx", "onnxscript")
"""Modules that make ONNX files, of which OpenVINO's are made; shipped networks run without."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def need(*modules: str) -> None:
    """Raises ConfigError: one of the modules is not installed; the line says how to get it."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            extra, purpose = EXTRAS[module]
            raise ConfigError(f"{purpose} needs the package {module}; run pip install 'tokenface[{extra}]'")


def need_runtime(runtime: str) -> None:
    """The package of `--runtime`, where it is a known one."""
    module = RUNTIMES.get(runtime.strip().lower())
    if module is not None:
        need(module)


def need_export(runtime: str) -> None:
    """The packages that write files for a runtime."""
    if runtime.strip().lower() in RUNTIMES:
        need(*EXPORTERS)
        need_runtime(runtime)


def need_photo(*paths: str | Path) -> None:
    """Raises ImageError: none of the photos, folders and addresses is there (one of several is found on its way)."""
    missing = [path for path in paths if not _ADDRESS.match(str(path)) and not Path(path).expanduser().exists()]
    if paths and len(missing) == len(paths):
        raise ImageError("; ".join(f"'{path}' does not exist" for path in missing))


def need_clip(path: str | Path) -> None:
    """The package for clips, and the clip: a file, a folder, or a pattern in a folder that exists.

    Raises:
        ConfigError: no such package.  VideoError: no such clip.
    """
    need("av")
    place = Path(path).expanduser()
    if not (place.parent.is_dir() if "%" in place.name else place.exists()):
        raise VideoError(f"no video at '{path}'")


def need_one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError: the option has another value."""
    if value not in allowed:
        raise ConfigError(f"{option} is one of {', '.join(allowed)}, got '{value}'")


def typed(context: typer.Context, options: Iterable[str]) -> str:
    """Those of the options that stand on the command line, as `--one, --other`."""
    found = [name for name in options if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    return ", ".join(f"--{name.replace('_', '-')}" for name in found)


def words(text: str) -> list[str]:
    """Comma-separated words in lower case."""
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def need_formats(formats: Iterable[str]) -> None:
    """Packages that file formats need."""
    for name in formats:
        if name in ("usd", "usdz"):
            need("pxr")
