"""`tokenface train`: a configuration becomes a run folder with states, logs and finished weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from tokenface.configuration import read_config, to_yaml
from tokenface.errors import ConfigError, OutputError
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.network.checkpoint import load_checkpoint, save_checkpoint
from tokenface.network.config import NetworkConfig, mean_camera
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches, photo_records
from tokenface.training.config import TrainConfig
from tokenface.training.loop import Trainer
from tokenface.training.validation import Validation
from tokenface.weights import find_weights

TRAINING_CROP_SCALE = 1.5
"""Middle of the training crops' sides, in units of the landmark box (data/photos.py, data/synthetic.py)."""

WEIGHTS_LICENCE = "Apache-2.0; see LICENSES.md for the training data"


def train(
    config_path: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: str | Path | None = None,
    report=print,
) -> Path:
    """Train, or continue a killed run.

    Args:
        config_path: YAML of a `TrainConfig`; None for the defaults.
        overrides: `section.key=value`.
        resume: a run folder; its own configuration is used, overrides on top.
    Returns:
        The finished weights, `<run folder>/weights.safetensors`.
    Raises:
        ConfigError, OutputError, CheckpointError, HeadModelError: each says what to do.
    """
    folder = None if resume is None else Path(resume)
    if folder is not None:
        config_path = folder / "config.yaml"
    config = read_config(TrainConfig, config_path, overrides)
    folder = folder or Path(config.run.folder) / config.run.name
    if resume is None and (folder / "state.safetensors").exists():
        raise ConfigError(f"'{folder}' already holds a run; continue it with --resume {folder} or set run.name=…")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the run folder '{folder}' ({error.strerror}); set run.folder=…") from error

    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    device = config.run.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    head = load_head(config.head)
    if config.start_from:
        model, _, _ = load_checkpoint(find_weights(config.start_from), head, image_size=config.network.image_size)
    else:
        model = TokenFace(_framed(config.network, head), head.sizes, seed=config.run.seed)
    head, model = head.to(device), model.to(device)
    training, held_out = photo_records(config.photos)
    report(
        f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters on {device}, "
        f"{len(training)} photos to train on, {len(held_out)} held out"
    )
    validation = Validation(head, held_out, config.network.image_size, config.run.validation_people)
    batches = Batches(config, head, training, folder / "ring")
    trainer = Trainer(config, model, head, batches, validation, folder)
    figures = trainer.fit(report)
    model.load_state_dict(trainer.average.values)
    weights = folder / "weights.safetensors"
    provenance = {
        "steps": trainer.progress.step,
        "images": trainer.progress.images,
        "hours": round(trainer.progress.seconds / 3600, 2),
        "device": device,
        "photos": len(training),
        "started_from": config.start_from,
        "config": to_yaml(config),
    }
    save_checkpoint(
        weights,
        model.cpu(),
        head.cpu(),
        {"crop": 1.25, "licence": WEIGHTS_LICENCE, "training": provenance, "metrics": figures},
    )
    return weights


def _framed(network: NetworkConfig, head: HeadModel) -> NetworkConfig:
    """The network's mean camera fitted to this head in the middle of the training crops, unless one was configured."""
    if network.camera_mean != NetworkConfig().camera_mean:
        return network
    landmarks = head.landmarks68(head.template[None])[0]
    return network.replace(camera_mean=mean_camera(landmarks, TRAINING_CROP_SCALE))
