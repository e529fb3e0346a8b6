"""Networks on other runtimes: from a shipped graph template, or from an export that is kept in the user's cache."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from tokenface.core.files import make_folder
from tokenface.core.fingerprint import content_hash, fingerprint
from tokenface.deploy.graph_names import SUFFIX, check_precision
from tokenface.deploy.runtime import AnotherNetwork, BFloat16Network, ExportedNetwork, open_network
from tokenface.deploy.templates import GRAPH_VERSION, find_template
from tokenface.graphs.templates import filled
from tokenface.head.model import HeadModel
from tokenface.images.models import cache_folder
from tokenface.network.tokenface import TokenFace
from tokenface.version import __version__


def other_network(
    network: TokenFace, head: HeadModel, weights_hash: str, runtime: str, precision: str
) -> AnotherNetwork:
    """The network on another runtime, or in another precision.

    In fp32 a network of a shipped architecture needs no file; others are exported on first use.

    Args:
        weights_hash: of the checkpoint: other weights have another file, and so has another version of the software.
        precision: of `RUNTIME_PRECISIONS[runtime]`; bf16 is arithmetic on the fp32 graph.
    Raises:
        ConfigError: unknown runtime or precision.  TokenFaceError: a package is missing.
    """
    check_precision(runtime, precision)
    if runtime == "torch":
        return BFloat16Network(network)
    ready = ready_network(network, head, weights_hash, runtime, precision)
    if ready is not None:
        return ready
    stored = _stored(precision)
    path = exported_path(network, head, weights_hash, runtime, stored)
    _make(network.eval(), head, path, stored)
    return _opened(path, network, runtime, precision)


def ready_network(
    network: TokenFace, head: HeadModel, weights_hash: str, runtime: str, precision: str
) -> AnotherNetwork | None:
    """As `other_network`, where that takes no export; else None."""
    stored = _stored(precision)
    graph = filled_graph(network) if stored == "fp32" else None
    if graph is not None:
        return _opened(graph, network, runtime, precision)
    path = exported_path(network, head, weights_hash, runtime, stored)
    return _opened(path, network, runtime, precision) if path.is_file() else None


def _stored(precision: str) -> str:
    """The precision of the weights in the file."""
    return "fp32" if precision == "bf16" else precision


def filled_graph(network: TokenFace) -> bytes | None:
    """The network as an ONNX model from its architecture's template; None where there is none."""
    template = find_template(network.config, network.sizes)
    if template is None:
        return None
    return filled(template, {name: value.detach().cpu().numpy() for name, value in network.named_parameters()})


def exported_path(network: TokenFace, head: HeadModel, weights_hash: str, runtime: str, stored: str) -> Path:
    """Where the exported file of some weights is kept, in one precision."""
    facts = {
        "software": __version__,
        "graph": GRAPH_VERSION,
        "weights": weights_hash,
        "head": head.data.geometry_hash(),
        "size": network.config.image_size,
    }
    if network.config.recognition:  # weights of a file of their own
        from tokenface.weights import recognition_path

        facts["recognition"] = content_hash(recognition_path())
    folder = cache_folder() / "exported" / f"{weights_hash}-{fingerprint(facts)[:12]}"
    return folder / f"parameters.{stored}.{SUFFIX[runtime]}"


def _opened(source: bytes | Path, network: TokenFace, runtime: str, precision: str) -> ExportedNetwork:
    size, threads = network.config.image_size, torch.get_num_threads()
    opened = open_network(source, size, threads, bf16=precision == "bf16", runtime=runtime)
    opened.heads = network.heads
    return opened


def _make(network: TokenFace, head: HeadModel, path: Path, precision: str) -> None:
    """Made under another name first: a run that is stopped leaves no half a file."""
    from tokenface.deploy.drift import CALIBRATION, rendered_crops
    from tokenface.deploy.onnx_files import convert, export_network
    from tokenface.deploy.precision import lowered

    make_folder(path.parent)
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
