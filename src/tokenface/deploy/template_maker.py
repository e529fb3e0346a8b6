"""Graph templates from networks: which constants of an exported graph are which weights.

The network is exported with random weights, of which no two are alike: equal numbers are then the same tensor. What is
no weight (positions, means and scales of the heads, sizes) stays in the graph.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tokenface.core.files import write_atomically
from tokenface.deploy.onnx_files import export_graph, export_network
from tokenface.deploy.templates import template_key
from tokenface.errors import TokenFaceError
from tokenface.graphs.sessions import needed
from tokenface.graphs.templates import FORMAT, GRAPH, Place
from tokenface.network.config import NetworkConfig
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import ComponentSizes
from tokenface.parsing.graph import LOGITS, PICTURES, TEMPLATE
from tokenface.parsing.network import ParsingNetwork
from tokenface.parsing.regions import SIZE

UNUSED = ("labels.", "surface.")
"""Parts of the state that inference does not read."""


def make_template(config: NetworkConfig, sizes: ComponentSizes, folder: Path) -> Path:
    """Write the template of an architecture into a folder.

    Raises:
        TokenFaceError: a package is missing, or the graph lacks a weight.
    """
    network = TokenFace(config, sizes, seed=0).eval()
    path = folder / f"{template_key(config, sizes)}.safetensors"
    return _written(network, lambda file: export_network(network, file), path)


def make_parsing_template(folder: Path) -> Path:
    """Write the template of face parsing into a folder.

    Raises:
        TokenFaceError: a package is missing, or the graph lacks a weight.
    """
    network = ParsingNetwork().eval()
    for block in list(network.modules()):
        if not isinstance(block, nn.Sequential):
            continue
        match list(block)[:2]:
            case [nn.Conv2d() as convolution, nn.BatchNorm2d() as norm]:
                block[0], block[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    pictures = (torch.zeros(2, 3, SIZE, SIZE),)
    path = folder / TEMPLATE
    return _written(network, lambda file: export_graph(network, pictures, (PICTURES,), (LOGITS,), file), path)


def _written(network: nn.Module, export: Callable[[Path], Path], path: Path) -> Path:
    """The template of a network, with the weights of its state left out."""
    weights = _random_weights(network)
    with tempfile.TemporaryDirectory() as temporary:
        model = needed("onnx").load(export(Path(temporary) / "network.onnx"))
    places = _taken_out(model.graph, weights)
    found = {place.key for place in places.values()}
    missing = sorted(key for key in weights if not key.startswith(UNUSED) and key not in found)
    if missing:
        raise TokenFaceError(f"the exported graph lacks {len(missing)} weights, among them {', '.join(missing[:3])}")
    graph = np.frombuffer(model.SerializeToString(), np.uint8)
    return write_atomically(path, save({GRAPH: graph}, metadata={FORMAT: json.dumps(places, sort_keys=True)}))


@torch.no_grad()
def _random_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """Fills the network; returns its weights by the names of its state, the recognition network's included."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, np.ndarray] = {}
    for name, value in network.named_parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
        found[name] = value.numpy()
    buffers = {name for name in network.state_dict() if name not in found}
    if buffers:
        raise TokenFaceError(f"the state holds '{sorted(buffers)[0]}', which is no parameter; templates do not know it")
    return found


def _taken_out(graph: Any, weights: dict[str, np.ndarray]) -> dict[str, Place]:
    """Removes the constants that are weights; returns where each comes from."""
    to_array = needed("onnx").numpy_helper.to_array
    known: dict[bytes, tuple[str, bool]] = {}
    for key, value in weights.items():
        if value.ndim == 2:
            known[value.T.tobytes()] = (key, True)
        known[value.tobytes()] = (key, False)
    places: dict[str, Place] = {}
    for tensor in list(graph.initializer):
        values = to_array(tensor)
        source = known.get(values.tobytes()) if values.dtype == np.float32 else None
        if source is not None:
            places[tensor.name] = Place(*source, values.shape)
            graph.initializer.remove(tensor)
    return places
