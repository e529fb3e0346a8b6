"""Face parsing as an ONNX graph: the shipped weights, batch normalisation folded into the convolutions before it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from tokenface.core.threads import given_threads
from tokenface.errors import CheckpointError
from tokenface.graphs.sessions import Call, installed_runtime, open_graph
from tokenface.graphs.templates import all_tensors, filled, read_template, templates_folder

WEIGHTS = "parsing.safetensors"
TEMPLATE = "parsing.safetensors"
"""In the folder of graph templates."""
PICTURES, LOGITS = "pictures", "logits"
"""Input and output, as `ParsingNetwork`'s."""
EPSILON = 1e-5
"""Of the batch normalisation."""


@lru_cache(maxsize=1)
def package_network() -> Call:
    """The network with the package's weights: [B, 3, SIZE, SIZE] → [B, REGIONS, SIZE / 2, SIZE / 2].

    Raises:
        CheckpointError: a file of the package is missing or damaged.  ConfigError: no runtime is installed.
    """
    return open_weights(Path(str(resources.files("tokenface"))) / "assets" / WEIGHTS)


def open_weights(path: Path) -> Call:
    """Weights of `ParsingNetwork` (its state), ready for pictures.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    graph = filled(read_template(templates_folder() / TEMPLATE), folded(all_tensors(path)))
    return open_graph(graph, (PICTURES,), (LOGITS,), given_threads(), runtime=installed_runtime())


def folded(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A network's state without its batch normalisations `x.1`: each is in the weights of the convolution `x.0`.

    Raises:
        CheckpointError: something is missing.
    """
    found = {name: value.astype(np.float32) for name, value in state.items()}
    for name in [name for name in found if name.endswith(".1.running_mean")]:
        norm, convolution = name.removesuffix("running_mean"), name.removesuffix("1.running_mean") + "0."
        try:
            mean, variance, gain, offset = (
                found.pop(norm + part) for part in ("running_mean", "running_var", "weight", "bias")
            )
            scale = gain / np.sqrt(variance + EPSILON)
            found[convolution + "weight"] = found[convolution + "weight"] * scale[:, None, None, None]
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"the weights of face parsing lack a part of '{norm[:-1]}' ({error})") from error
        found[convolution + "bias"] = offset - mean * scale
    return found
