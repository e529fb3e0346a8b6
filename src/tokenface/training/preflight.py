"""Preflight checks of a run: disk space, and a valid first batch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch

from tokenface.errors import ConfigError, DataError, OutputError
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches
from tokenface.training.config import RunConfig
from tokenface.training.state import Progress

BOUNDS = {
    **{"batch": (1, 1 << 20), "accumulate": (1, 1 << 16), "ahead": (0, 1000), "threads": (0, 4096)},
    **{"steps": (0, 10**9), "epochs": (0, 10**6), "log_every": (1, 10**9), "checkpoint_every": (1, 10**9)},
    **{"validate_every": (1, 10**9), "validation_people": (0, 10**5), "validation_photos": (0, 10**5)},
}
"""Least and most of a run's whole numbers."""
SPARE = 256 << 20
"""Bytes for curves, pictures and what else shares the disk."""


def check_settings(run: RunConfig) -> None:
    """The name of a run is a folder's name, and its numbers are such as a computer can have.

    Raises:
        ConfigError: names the setting.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,99}", run.name):
        raise ConfigError(f"run.name is letters, digits and '._+=-', not a path, got {run.name[:60]!r}")
    for key, (least, most) in BOUNDS.items():
        value = getattr(run, key)
        if not least <= value <= most:
            raise ConfigError(f"run.{key} must be {least} to {most}, got {value}")


def check_disk(folder: Path, model: TokenFace, batches: Batches) -> None:
    """Room for the ring, two states at once (the new one is whole before the old one goes) and the weights.

    Files are made sparse, so a full disk would otherwise show itself hours later, in the middle of a write.

    Raises:
        OutputError: too little room; says how much is needed.
    """
    state = 4 * 4 * sum(p.numel() for p in model.parameters())  # weights, average, two moments, float32
    present = folder / "state.safetensors"
    needed = SPARE + 2 * state + state // 8 - (present.stat().st_size if present.is_file() else 0)
    if batches.synthetic is not None and batches.layout.local_rank == 0:
        needed += batches.synthetic.ring.bytes_to_come()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the run needs {needed / 1e9:.1f} GB in '{folder}', {free / 1e9:.1f} GB are free; free some space, set "
            "run.folder to another disk or synthetic.ring to fewer faces"
        )


def check_first_batch(batches: Batches, progress: Progress) -> None:
    """Draw what the first step will draw. Rendered faces stay in the ring.

    Raises:
        DataError: pictures of another size, or numbers that are not finite.
    """
    passes, progress.rendered = batches.draw(progress.step, progress.rendered)
    for batch in passes:
        for part in (batch.synthetic, batch.landmark_photos, batch.scans, batch.photos_2d):
            if part is None:
                continue
            if part.image.shape[1:] != batches.picture_shape:
                raise DataError(
                    f"the data gives pictures of {tuple(part.image.shape[1:])}, the network wants "
                    f"{batches.picture_shape}"
                )
            if not (torch.isfinite(part.image).all() and torch.isfinite(part.landmarks68).all()):
                raise DataError("the first batch holds numbers that are not finite; run 'tokenface prepare check'")
