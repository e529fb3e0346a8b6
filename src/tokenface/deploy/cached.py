"""`--runtime onnx|openvino`: the weights' exported file, made on first use and kept in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from tokenface.deploy.export import PRECISIONS, SUFFIX, lowered
from tokenface.deploy.onnx_files import export_network
from tokenface.deploy.openvino_files import convert
from tokenface.deploy.runtime import ExportedNetwork, open_network
from tokenface.errors import ConfigError
from tokenface.formats.files import make_folder
from tokenface.head.model import HeadModel
from tokenface.images.models import cache_folder
from tokenface.network.tokenface import TokenFace


def exported_network(
    network: TokenFace, head: HeadModel, weights_hash: str, runtime: str, precision: str
) -> ExportedNetwork:
    """The network on another runtime.

    Args:
        weights_hash: of the checkpoint: other weights have another file.
    Raises:
        ConfigError: unknown runtime or precision.  TokenFaceError: a package is missing.
    """
    if runtime not in SUFFIX or precision not in PRECISIONS:
        raise ConfigError(
            f"runtime '{runtime}' with precision '{precision}' is unknown; choose torch, "
            f"{' or '.join(SUFFIX)} and {', '.join(PRECISIONS)}"
        )
    folder = make_folder(cache_folder() / "exported" / weights_hash)
    path = folder / f"parameters.{precision}.{SUFFIX[runtime]}"
    if not path.is_file():
        _make(network.eval(), head, path, precision)
    return open_network(path, network.config.image_size)


def _make(network: TokenFace, head: HeadModel, path: Path, precision: str) -> None:
    """Made under another name first: a run that is stopped leaves no half a file."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    full = part.with_name(f"{part.stem}.full.onnx")
    made = [full]
    try:
        export_network(network, full)
        source = full
        if precision == "int8" or (precision == "fp16" and path.suffix == ".onnx"):
            made.append(full.with_suffix(f".{precision}.onnx"))
            source = lowered(full, made[-1], precision, head, network.config.image_size)
        if path.suffix == ".xml":
            convert(source, part, half=precision == "fp16")
            part.with_suffix(".bin").replace(path.with_suffix(".bin"))  # the .xml, which is looked for, comes last
            part.replace(path)
        else:
            source.replace(path)
    finally:
        for file in (*made, part, part.with_suffix(".bin")):
            file.unlink(missing_ok=True)
