"""A training run's state on disk: written atomically, read without unpickling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tokenface.errors import CheckpointError, OutputError

FORMAT = "tokenface-training-1"


@dataclass
class Progress:
    """step: optimiser steps done.  rendered: synthetic faces ever written to the ring.  images: seen by the network."""

    step: int = 0
    rendered: int = 0
    images: int = 0
    seconds: float = 0.0


def save_state(path: Path, model: nn.Module, ema: dict[str, Tensor], optimiser: Optimizer, progress: Progress) -> None:
    """Replace `path` by the present state, or leave it as it was.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
            temporary,
            metadata={
                "format": FORMAT,
                "optimiser": type(optimiser).__name__,
                "progress": json.dumps(vars(progress)),
            },
        )
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write the training state '{path}' ({error}); free space, then resume") from error


def load_state(path: Path, model: nn.Module, ema: dict[str, Tensor], optimiser: Optimizer) -> Progress:
    """Bring model, EMA and optimiser to the state in `path`.

    Raises:
        CheckpointError: damaged, or of a run with another network or optimiser.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"'{path}' is not a training state")
            made_by, ours = metadata.get("optimiser"), type(optimiser).__name__
            if made_by != ours:
                raise CheckpointError(f"'{path}' was made by the optimiser {made_by}, not {ours}; set optimiser.name")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"training state '{path}' is damaged ({error})") from error
    try:
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    except RuntimeError as error:
        raise CheckpointError(f"'{path}' was made with another network: {str(error).splitlines()[0]}") from error
    for key in ema:
        ema[key].copy_(tensors[f"ema.{key}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return Progress(**json.loads(metadata["progress"]))
