"""Devices, precision and processes by Lightning Fabric: one process, DDP or FSDP."""

from __future__ import annotations

import logging
import os
import warnings
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tokenface.errors import ConfigError
from tokenface.network.backbone import Block
from tokenface.training.config import RunConfig

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class World(NamedTuple):
    """Number of processes, and of those on this machine."""

    processes: int
    local: int

    @staticmethod
    def from_environment() -> World:
        """As torchrun or SLURM's srun say it; one process when neither started this one."""
        environment = os.environ
        if "TORCHELASTIC_RUN_ID" in environment or "LOCAL_WORLD_SIZE" in environment:
            return World(int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"]))
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))  # set by srun alone
        if tasks > 1:
            return World(tasks, max(1, tasks // int(environment.get("SLURM_STEP_NUM_NODES", "1"))))
        return World(1, 1)

    @staticmethod
    def is_first() -> bool:
        """Whether this process writes and speaks for all."""
        return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def create_fabric(run: RunConfig) -> Fabric:
    """The launched Fabric of this process.

    Raises:
        ConfigError: a device, precision or strategy that cannot be had here.
    """
    accelerator = _accelerator(run.device)
    if accelerator == "cpu" and run.precision == "fp16":
        raise ConfigError("run.precision 'fp16' needs a GPU; set run.precision to bf16 or fp32")
    precision = run.precision if run.precision != "auto" else "fp32" if accelerator == "cpu" else "bf16"
    world = World.from_environment()
    if world.processes == 1 and run.strategy == "fsdp":
        raise ConfigError("run.strategy 'fsdp' needs several processes; start them with torchrun or srun")
    if accelerator == "cuda" and world.local > torch.cuda.device_count():
        raise ConfigError(f"{world.local} processes for {torch.cuda.device_count()} GPUs; start one process per GPU")
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on devices that were left unused on purpose
        fabric = Fabric(
            accelerator=accelerator,
            devices=world.local if world.processes > 1 else [_index(run.device)] if accelerator == "cuda" else 1,
            num_nodes=max(1, world.processes // world.local),
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            strategy=_strategy(run, world),
        )
        fabric.launch()
    return fabric


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of one that may be spread over processes (all of them must ask)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be spread over processes, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def spread_like(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor, laid out over the processes as `like` is."""
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        value = value.to(device=like.device, dtype=like.dtype)
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value


def _accelerator(device: str) -> str:
    kind = device.partition(":")[0]
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"run.device must be auto, cpu or cuda, got '{device}'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device is 'cuda', but torch finds no GPU; set run.device=cpu")
    return kind


def _index(device: str) -> int:
    number = device.partition(":")[2]
    return int(number) if number.isdigit() else 0


def _strategy(run: RunConfig, world: World) -> str | ModelParallelStrategy:
    if world.processes == 1:
        return "auto"
    if run.strategy == "fsdp":
        return ModelParallelStrategy(
            parallelize_fn=_shard_blocks, data_parallel_size=world.processes, tensor_parallel_size=1
        )
    return "ddp"


def _shard_blocks(module: nn.Module, mesh) -> nn.Module:
    """FSDP by transformer block, then the rest."""
    for child in module.modules():
        if isinstance(child, Block):
            fully_shard(child, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    return module
