"""Checkpoint of a temporal transformer: one `.safetensors` beside the image model's, tied to it by hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from tokenface.core.files import write_atomically
from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError
from tokenface.network.temporal import TemporalTransformer
from tokenface.weights import companion

FORMAT = "tokenface-temporal-1"


def temporal_path(weights: str | Path, mode: str) -> Path:
    return companion(weights, f"{mode}.temporal")


def save_temporal(
    path: str | Path, module: TemporalTransformer, image_weights: str, metadata: dict[str, Any] | None = None
) -> None:
    """Write a module in float16, atomically.

    Args:
        image_weights: `weights.file_hash` of the image model whose tokens it was trained on.
        metadata: JSON-able facts ("training", "metrics").
    Raises:
        OutputError: it cannot be written.
    """
    facts = {
        **(metadata or {}),
        "image_weights": image_weights,
        "module": {
            "width": module.width,
            "tokens": module.tokens,
            "mode": module.mode,
            "depth": module.depth,
            "heads": module.heads,
        },
    }
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(facts, sort_keys=True)}))


def load_temporal(path: str | Path, image_weights: str | None = None, mode: str | None = None) -> TemporalTransformer:
    """A module in evaluation mode on the CPU.

    Args:
        image_weights: hash of the image weights it will serve.  mode: that it must have.
    Raises:
        CheckpointError: missing, damaged, for other image weights, or of the other mode.
    """
    path = Path(path)
    facts, tensors = _read(path)
    if image_weights is not None and facts.get("image_weights") != image_weights:
        raise CheckpointError(
            f"'{path}' was trained on the tokens of other image weights ({facts.get('image_weights')}, not "
            f"{image_weights}); train it again with 'tokenface train-temporal', or use --temporal off"
        )
    try:
        settings = facts["module"]
        module = TemporalTransformer(
            int(settings["width"]),
            int(settings["tokens"]),
            str(settings["mode"]),
            int(settings["depth"]),
            int(settings["heads"]),
        )
        tensors.setdefault("doubt", torch.zeros(module.tokens))  # files from before there was one
        module.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"'{path}' does not hold the module it describes ({reason}); train it again") from error
    if mode is not None and module.mode != mode:
        raise CheckpointError(f"'{path}' is a {module.mode} temporal transformer; expected a {mode} one")
    return module.eval()


def read_temporal_metadata(path: str | Path) -> dict[str, Any]:
    """The facts of a file of `save_temporal`.

    Raises:
        CheckpointError: missing or damaged.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"no temporal weights at '{path}'; make some with 'tokenface train-temporal'")
    try:
        with open_tensors(path) as file:
            header = file.metadata() or {}
            if FORMAT not in header:
                raise CheckpointError(f"'{path}' holds no temporal transformer; expected one of 'train-temporal'")
            facts = json.loads(header[FORMAT])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"temporal weights '{path}' are damaged ({error}); train them again") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"temporal weights '{path}' have malformed metadata; train them again")
    return facts, tensors
