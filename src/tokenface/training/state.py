"""Training state on disk: written atomically, read without unpickling."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tokenface.core.files import discard
from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError, OutputError
from tokenface.training.distribution import spread_like, whole

FORMAT = "tokenface-training-1"


@dataclass
class Progress:
    """step: optimiser steps done.  rendered: synthetic faces ever written to the ring.  images: seen by the network.
    sums: of the losses since the last row of the curve, mean of the processes.  counted: steps in them."""

    step: int = 0
    rendered: int = 0
    images: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0


def save_state(
    path: Path,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimiser: Optimizer,
    progress: Progress,
    scaler: dict[str, float] | None = None,
    writes: bool = True,
    head: str = "",
) -> None:
    """Replace `path` by the present state, or leave it as it was.

    Args:
        scaler: of the gradients, in fp16.
        writes: this process writes; the others only hand over their parts of what is spread over processes.
    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    full = {k: whole(v.detach()) for k, v in tensors.items()}
    if not writes:
        return
    temporary = path.with_name(path.name + ".part")
    metadata = {
        "format": FORMAT,
        "optimiser": type(optimiser).__name__,
        "progress": json.dumps(vars(progress)),
        "scaler": json.dumps(scaler),
        "head": head,
    }
    try:
        save_file({k: v.cpu().contiguous() for k, v in full.items()}, temporary, metadata=metadata)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave a name without content
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        discard(temporary)
        raise OutputError(f"cannot write the training state '{path}' ({error}); free space, then resume") from error


def load_scaler(path: Path) -> dict[str, float] | None:
    """The gradient scaler's state in a training state that `load_state` accepted."""
    with open_tensors(path) as file:
        return json.loads((file.metadata() or {}).get("scaler", "null"))


def load_state(path: Path, model: nn.Module, ema: dict[str, Tensor], optimiser: Optimizer, head: str = "") -> Progress:
    """Bring model, EMA and optimiser to the state in `path`.

    Args:
        head: `geometry_hash` of the head model that is trained.
    Raises:
        CheckpointError: damaged, or of a run with another network, optimiser or head model.
    """
    try:
        with open_tensors(path) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"'{path}' is not a training state")
            made_by, ours = metadata.get("optimiser"), type(optimiser).__name__
            if made_by != ours:
                raise CheckpointError(f"'{path}' was made by the optimiser {made_by}, not {ours}; set optimiser.name")
            if metadata.get("head", head) != head:  # a state of an older version does not say
                raise CheckpointError(f"'{path}' was made with another head model; resume with the run's own")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"training state '{path}' is damaged ({error})") from error
    _fill(path, {k: v for k, v in model.state_dict().items()}, tensors, "model.")
    _fill(path, ema, tensors, "ema.")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            if int(index) >= len(parameters):
                raise CheckpointError(f"'{path}' was made with other parameters frozen; set freeze as it was")
            like = parameters[int(index)]
            if value.dim() and value.shape != like.shape:
                raise CheckpointError(f"'{path}' was made with other parameters frozen; set freeze as it was")
            state.setdefault(int(index), {})[name] = spread_like(value, like) if value.dim() else value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return Progress(**json.loads(metadata["progress"]))


@torch.no_grad()
def _fill(path: Path, into: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str) -> None:
    """Copy the tensors of that prefix to their places; all of them, or none."""
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    wrong = sorted(set(found) ^ set(into)) or sorted(k for k, v in into.items() if found[k].shape != v.shape)
    if wrong:
        raise CheckpointError(
            f"'{path}' was made with another network: {len(wrong)} tensors differ, the first is {wrong[0]}; "
            "resume with the run's own configuration"
        )
    for key, value in into.items():
        value.copy_(spread_like(found[key], value))
