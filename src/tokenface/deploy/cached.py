"""Cached exports for `--runtime onnx|openvino`: built on first use, kept in the user's cache."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from tokenface.core.files import make_folder
from tokenface.core.fingerprint import fingerprint
from tokenface.deploy.drift import CALIBRATION, rendered_crops
from tokenface.deploy.export import GRAPH_VERSION, SUFFIX
from tokenface.deploy.onnx_files import convert, export_network
from tokenface.deploy.precision import PRECISIONS, lowered
from tokenface.deploy.runtime import AnotherNetwork, BFloat16Network, open_network
from tokenface.errors import ConfigError
from tokenface.head.model import HeadModel
from tokenface.images.models import cache_folder
from tokenface.network.tokenface import TokenFace
from tokenface.version import __version__

RUNTIME_PRECISIONS = {"torch": ("fp32", "bf16"), "onnx": PRECISIONS, "openvino": (*PRECISIONS, "bf16")}


def other_network(
    network: TokenFace, head: HeadModel, weights_hash: str, runtime: str, precision: str
) -> AnotherNetwork:
    """The network on another runtime, or in another precision.

    Args:
        weights_hash: of the checkpoint: other weights have another file, and so has another version of the software.
        precision: of `RUNTIME_PRECISIONS[runtime]`; bf16 is arithmetic on the fp32 file.
    Raises:
        ConfigError: unknown runtime or precision.  TokenFaceError: a package is missing.
    """
    check_precision(runtime, precision)
    if runtime == "torch":
        return BFloat16Network(network)
    stored = "fp32" if precision == "bf16" else precision
    facts = {
        "software": __version__,
        "graph": GRAPH_VERSION,
        "weights": weights_hash,
        "head": head.data.geometry_hash(),
        "size": network.config.image_size,
    }
    folder = make_folder(cache_folder() / "exported" / f"{weights_hash}-{fingerprint(facts)[:12]}")
    path = folder / f"parameters.{stored}.{SUFFIX[runtime]}"
    if not path.is_file():
        _make(network.eval(), head, path, stored)
    return open_network(path, network.config.image_size, torch.get_num_threads(), bf16=precision == "bf16")


def check_precision(runtime: str, precision: str) -> None:
    """Raises ConfigError unless the runtime computes so."""
    if runtime not in RUNTIME_PRECISIONS:
        raise ConfigError(f"runtime '{runtime}' is unknown; choose {', '.join(RUNTIME_PRECISIONS)}")
    if precision not in RUNTIME_PRECISIONS[runtime]:
        raise ConfigError(
            f"runtime '{runtime}' has no precision '{precision}'; choose {', '.join(RUNTIME_PRECISIONS[runtime])}"
        )


def _make(network: TokenFace, head: HeadModel, path: Path, precision: str) -> None:
    """Made under another name first: a run that is stopped leaves no half a file."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    full = part.with_name(f"{part.stem}.full.onnx")
    low = full.with_suffix(f".{precision}.onnx")
    crops = partial(rendered_crops, head, network.config.image_size, CALIBRATION)
    try:
        source = lowered(export_network(network, full), low, precision, crops)
        if path.suffix == ".xml":
            convert(source, part, packed=precision != "fp32")
            part.with_suffix(".bin").replace(path.with_suffix(".bin"))  # the .xml, which is looked for, comes last
            part.replace(path)
        else:
            source.replace(path)
    finally:
        for file in (full, low, part, part.with_suffix(".bin")):
            file.unlink(missing_ok=True)
