"""Graph templates of the shipped networks, by architecture, and the tensors that go into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokenface.core.fingerprint import fingerprint
from tokenface.graphs.templates import Template, all_tensors, read_template, templates_folder
from tokenface.network.config import NetworkConfig
from tokenface.parameters import COMPONENTS, ComponentSizes

GRAPH_VERSION = 1
"""Raised whenever the same weights would give another graph."""
RECOGNITION = "closeups.recognition."
"""Prefix of the tensors that come from the recognition network's file."""
NOT_IN_THE_GRAPH = ("drop_path", "token_std", "surface_cells", "label_sources")
"""Of a network's configuration: what concerns training alone."""


def template_key(config: NetworkConfig, sizes: ComponentSizes) -> str:
    """Name of the template of an architecture."""
    network = {name: value for name, value in config.to_dict().items() if name not in NOT_IN_THE_GRAPH}
    facts = {"graph": GRAPH_VERSION, "network": network, "sizes": {name: sizes[name] for name in COMPONENTS}}
    return fingerprint(facts)[:16]


def find_template(config: NetworkConfig, sizes: ComponentSizes) -> Template | None:
    """The shipped template of an architecture; None where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = templates_folder() / f"{template_key(config, sizes)}.safetensors"
    return read_template(path) if path.is_file() else None


def stored_tensors(weights: Path, recognition: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint and of the recognition network, named as in a network's state.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return {**all_tensors(weights), **{f"{RECOGNITION}{name}": one for name, one in all_tensors(recognition).items()}}
