"""What is checked before hours are spent: room on the disk, and a first batch that is what it should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from tokenface.errors import DataError, OutputError
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches
from tokenface.training.state import Progress

SPARE = 256 << 20
"""Bytes for curves, pictures and what else shares the disk."""


def check_disk(folder: Path, model: TokenFace, batches: Batches) -> None:
    """Room for the ring, two states at once (the new one is whole before the old one goes) and the weights.

    Files are made sparse, so a full disk would otherwise show itself hours later, in the middle of a write.

    Raises:
        OutputError: too little room; says how much is needed.
    """
    state = 4 * 4 * sum(p.numel() for p in model.parameters())  # weights, average, two moments, float32
    present = folder / "state.safetensors"
    needed = SPARE + 2 * state + state // 8 - (present.stat().st_size if present.is_file() else 0)
    if batches.synthetic is not None and batches.shares.local == 0:
        needed += batches.synthetic.ring.bytes_to_come()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the run needs {needed / 1e9:.1f} GB in '{folder}', {free / 1e9:.1f} GB are free; free some space, set "
            "run.folder to another disk or synthetic.ring to fewer faces"
        )


def check_first_batch(batches: Batches, progress: Progress, size: int) -> None:
    """Draw what the first step will draw. Rendered faces stay in the ring.

    Raises:
        DataError: pictures of another size, or numbers that are not finite.
    """
    passes, progress.rendered = batches.draw(progress.step, progress.rendered)
    for batch in passes:
        images = batch.images()
        if images.shape[1:] != (3, size, size):
            raise DataError(
                f"the data gives pictures of {tuple(images.shape[1:])}, the network wants (3, {size}, {size})"
            )
        for part in (batch.synthetic, batch.photos, batch.scans, batch.pictures):
            if part is not None and not (torch.isfinite(part.image).all() and torch.isfinite(part.landmarks68).all()):
                raise DataError("the first batch holds numbers that are not finite; run 'tokenface prepare check'")
