"""Checkpoints: one `.safetensors` file with weights and, as JSON, what their use needs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError, ConfigError, HeadModelError, OutputError
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.checkpoint_facts import FORMAT, check_head_name, damaged, read_metadata
from tokenface.network.backbone import VisionTransformer
from tokenface.network.config import NetworkConfig
from tokenface.network.pretrained import resample_positions
from tokenface.network.tokenface import TokenFace

RESERVED = ("network", "head")


def save_checkpoint(
    path: str | Path, model: TokenFace, head: HeadModel, metadata: dict[str, Any] | None = None, *, half: bool = True
) -> None:
    """Write a network's weights, atomically. Give it the averaged weights: the file holds one set.

    Args:
        path: ends in `.safetensors`.
        head: the head model it was trained for; its name, licence and geometry hash go into the file.
        metadata: JSON-able facts for `load_checkpoint` to return: "crop" (the protocol's scale), "training"
            (provenance), "metrics", "licence", …
        half: store float16; rounding moves landmarks by far less than a hundredth of a pixel.
    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    facts = dict(metadata or {})
    if clash := sorted(set(facts) & set(RESERVED)):
        raise ValueError(f"metadata must not hold {', '.join(clash)}: the checkpoint writes it itself")
    facts["network"] = model.config.to_dict()
    facts["head"] = {
        "name": head.name,
        "licence": head.data.licence,
        "geometry_hash": head.data.geometry_hash(),
        "vertices": head.vertex_count,
    }
    tensors = {k: _stored(v, half) for k, v in model.state_dict().items()}
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # one key: safetensors writes several in random order, and equal weights should be equal files
        save_file(tensors, temporary, metadata={FORMAT: json.dumps(facts, sort_keys=True)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write the checkpoint '{path}' ({error}); free space or choose another") from error


def load_checkpoint(
    path: str | Path, head: HeadModel | None = None, *, image_size: int | None = None
) -> tuple[TokenFace, HeadModel, dict[str, Any]]:
    """A network, ready to use, in evaluation mode on the CPU.

    Args:
        path: a file that `save_checkpoint` wrote.
        head: the head model to use; None: the one the checkpoint names, from the installed ones.
        image_size: crop size to continue at; None: the one it was trained at. Learned positions are resampled.
    Returns:
        The network, its head model, and the metadata (with "network" and "head" filled in).
    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or made for another head model.
    """
    facts, tensors = _read(Path(path))
    try:
        config = NetworkConfig.from_dict(facts["network"])
        if image_size is not None:
            config = config.replace(image_size=image_size)
        needed = facts["head"]
        name, geometry = str(needed["name"]), str(needed["geometry_hash"])
        vertices = int(needed["vertices"])
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"'{path}' describes a network that this version cannot build ({error}); update tokenface"
        ) from error
    if head is None:
        head = _installed_head(path, name)
    if head.data.geometry_hash() != geometry:
        raise CheckpointError(_wrong_head(path, name, vertices, head))
    try:
        model = TokenFace(config, head.sizes, seed=0)
    except ConfigError as error:
        raise CheckpointError(f"'{path}' describes a network that cannot be built: {error}") from error
    model.load_state_dict(_fitting(path, model, tensors))
    return model.eval(), head, facts


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    facts = read_metadata(path)
    try:
        with open_tensors(path) as file:
            return facts, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise damaged(path, error) from error


def _installed_head(path: str | Path, name: str) -> HeadModel:
    check_head_name(path, name)
    try:
        return load_head(name)
    except HeadModelError as error:
        raise CheckpointError(f"checkpoint '{path}' needs the head model '{name}': {error}") from error


def _wrong_head(path: str | Path, name: str, vertices: int, head: HeadModel) -> str:
    if head.name == name and head.vertex_count == vertices:
        return (
            f"'{path}' was trained on another build of {name}: same vertices, other bases or template. "
            "Load weights of this version, or the head model that came with them."
        )
    return (
        f"head model '{head.name}' has {head.vertex_count} vertices but '{path}' was trained on {name} ({vertices}). "
        f"Load weights for {head.name}, or leave the head model out."
    )


def _fitting(path: str | Path, model: TokenFace, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the model wants them: float32, positions on its grid; refuses what does not fit."""
    expected = model.state_dict()
    key, backbone = "backbone.pos_embed", model.backbone
    if key in expected and key in tensors and isinstance(backbone, VisionTransformer) and tensors[key].dim() == 3:
        tensors[key] = resample_positions(tensors[key], backbone.grid, int(backbone.spec.class_token))
    wrong = sorted(k for k, v in expected.items() if k not in tensors or tensors[k].shape != v.shape)
    wrong += sorted(set(tensors) - set(expected))
    if wrong:
        raise CheckpointError(
            f"'{path}' does not hold the weights of the network it describes ({len(wrong)} tensors differ, first: "
            f"{wrong[0]}); download or train it again"
        )
    return {k: v.to(expected[k].dtype) for k, v in tensors.items()}


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value.clone()
