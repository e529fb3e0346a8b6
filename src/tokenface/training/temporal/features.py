"""Token features of clips, made once by the frozen image model and kept on disk; a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.files import make_folder, write_atomically
from tokenface.inference.predictor import Predictor
from tokenface.training.temporal.clips import ClipShelf, TrueClip, clip_seed, render_clips
from tokenface.training.temporal.config import SequenceData
from tokenface.training.temporal.tokens import first_crop, follow, packed, unpacked
from tokenface.video.prediction import crop_vector

VERSION = 2
"""Of the passes: two of them where a face moved far."""


@dataclass(frozen=True)
class ClipFeatures:
    """N clips of T frames. tokens: [N, T, K, D] of the image model.  crops: [N, T, 4] that it saw, frame pixels.
    shape, expression, jaw: [N, T, ·] truth.  rotation: [N, T, 3, 3], scale: [N, T], translation: [N, T, 2],
    distance, depth: [N, T] of the true view in the frame's NDC.  size: [N] pixels of the frames."""

    tokens: Tensor
    crops: Tensor
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    distance: Tensor
    depth: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index) -> ClipFeatures:
        return ClipFeatures(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def run(self, frames: slice) -> ClipFeatures:
        """Some frames of a single clip."""
        return ClipFeatures(**{f.name: v[frames] if (v := getattr(self, f.name)).dim() else v for f in fields(self)})

    @staticmethod
    def stack(clips: list[ClipFeatures]) -> ClipFeatures:
        return ClipFeatures(**{f.name: torch.stack([getattr(c, f.name) for c in clips]) for f in fields(ClipFeatures)})


def prepare(
    predictor: Predictor, data: SequenceData, folder: Path, report: Callable[[str], object]
) -> tuple[ClipFeatures, ClipFeatures]:
    """Training and held-out features: what is in the folder, and the rest made now.

    Clips are kept for any weights of the head model, tokens under the hash of the weights that made them.
    """
    shelf = ClipShelf(predictor.head, data, folder)
    numbers = render_clips(shelf, report)
    seen = make_folder(folder / f"tokens_{predictor.origin.weights_hash}_{shelf.key}_{data.views}_v{VERSION}")
    sets: list[list[ClipFeatures]] = []
    for held_out, wanted in enumerate(numbers):
        sets.append([])
        for number in wanted:
            path = seen / f"clip_{number:07d}.npz"
            if not path.is_file():
                clip = shelf.clip(number)
                seeds = (clip_seed(data.seed + 1, number * 8 + view) for view in range(1 if held_out else data.views))
                write_atomically(path, packed([_see(predictor, clip, seed) for seed in seeds]))
                if number % 10 == 0:
                    report(f"looked at clip {number - wanted.start} of {len(wanted)}")
            sets[-1] += unpacked(path, ClipFeatures)
    return ClipFeatures.stack(sets[0]), ClipFeatures.stack(sets[1])


def _see(predictor: Predictor, clip: TrueClip, seed: int) -> ClipFeatures:
    """The clip as the tracker would see it, from a crop near the truth on."""
    views = list(follow(predictor, clip.pictures, first_crop(clip.points[0], predictor.crop_scale, seed)))
    tokens = torch.stack([view.tokens for view in views if view.tokens is not None])
    crops = torch.from_numpy(np.stack([crop_vector(view.crop) for view in views]))
    size = torch.tensor(float(clip.pictures.shape[1]))
    return ClipFeatures(tokens=tokens, crops=crops, size=size, **clip.truth)
