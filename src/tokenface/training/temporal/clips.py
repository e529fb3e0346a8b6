"""Synthetic clips with ground truth, rendered once and cached, for any image weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.arrays import open_arrays
from tokenface.core.files import make_folder, write_atomically
from tokenface.core.fingerprint import fingerprint
from tokenface.data.sequences import SyntheticSequences
from tokenface.data.synthetic import GENERATOR_VERSION
from tokenface.errors import CheckpointError
from tokenface.head.model import HeadModel
from tokenface.training.temporal.config import SequenceData

HELD_OUT = 1 << 20
"""Held-out clips are numbered from here on: however many clips are trained on, these are others."""
TRUTH = ("shape", "expression", "jaw", "rotation", "scale", "translation", "distance", "depth")


@dataclass(frozen=True)
class TrueClip:
    """T frames. pictures: [T, S, S, 3] uint8 RGB.  points: [T, 68, 2] frame pixels.  truth: by names of `TRUTH`, a
    row per frame: parameters of the person, and the view in the frame's NDC."""

    pictures: np.ndarray
    points: np.ndarray
    truth: dict[str, Tensor]


class ClipShelf:
    """Clips of one head model in a folder, by number; drawn by (seed, number), made when they are first asked for.

    Args:
        folder: of all shelves; each setting of the generator has one of its own in it.
    """

    def __init__(self, head: HeadModel, data: SequenceData, folder: Path) -> None:
        self.data = data
        facts = {
            "generator": GENERATOR_VERSION,
            "head": head.data.geometry_hash(),
            "frames": data.frames,
            "pixels": data.pixels,
            "seed": data.seed,
        }
        self.key = fingerprint(facts)[:12]
        self.folder = make_folder(folder / f"clips_{self.key}")
        self._head = head
        self._faces: SyntheticSequences | None = None

    def clip(self, number: int) -> TrueClip:
        """Raises CheckpointError when the file is damaged."""
        path = self.folder / f"clip_{number:07d}.npz"
        if not path.is_file():
            write_atomically(path, self._rendered(number))
        try:
            with open_arrays(path) as file:
                truth = {name: torch.from_numpy(file[name]) for name in TRUTH}
                return TrueClip(file["pictures"], file["points"], truth)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"the clip '{path}' is damaged ({error}); delete that file") from error

    def _rendered(self, number: int) -> bytes:
        if self._faces is None:
            self._faces = SyntheticSequences(self._head, self.data.pixels)
        sequence = self._faces.sample(self.data.frames, clip_seed(self.data.seed, number))
        view = sequence.view
        truth = {
            "shape": sequence.shape,
            "expression": sequence.expression,
            "jaw": sequence.jaw,
            "rotation": view.rotation,
            "scale": view.scale,
            "translation": view.translation,
            "distance": view.distance,
            "depth": view.depth,
        }
        pictures = (sequence.image.permute(0, 2, 3, 1).numpy() * 255 + 0.5).astype(np.uint8)
        buffer = io.BytesIO()
        arrays = {name: value.numpy() for name, value in truth.items()}
        np.savez(buffer, pictures=pictures, points=sequence.points.numpy(), **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()


def render_clips(shelf: ClipShelf, report: Callable[[str], object]) -> tuple[range, range]:
    """Numbers of the clips to train on and of the held-out ones, all of them on disk."""
    training = range(shelf.data.clips)
    held_out = range(HELD_OUT, HELD_OUT + shelf.data.held_out)
    for done, number in enumerate((*training, *held_out)):
        if not (shelf.folder / f"clip_{number:07d}.npz").is_file():
            shelf.clip(number)
            if done % 10 == 0:
                report(f"rendered {done} of {len(training) + len(held_out)} clips")
    return training, held_out


def clip_seed(seed: int, number: int) -> int:
    """One 62-bit seed from two numbers, as the training of the image model makes them."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 62)
