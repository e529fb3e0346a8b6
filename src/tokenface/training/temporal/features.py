"""Token features of clips, made once by the frozen image model and kept on disk; a killed run goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.errors import CheckpointError
from tokenface.formats.files import make_folder, write_atomically
from tokenface.images.crop import Crop, crop_from_landmarks
from tokenface.inference.reconstruct import Reconstructor
from tokenface.training.temporal.clips import ClipShelf, TrueClip, clip_seed, render_clips
from tokenface.training.temporal.config import SequenceData
from tokenface.video.answer import crop_vector
from tokenface.video.look import FrameNetwork
from tokenface.video.person import following_crop


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

    @staticmethod
    def stack(clips: list[ClipFeatures]) -> ClipFeatures:
        return ClipFeatures(**{f.name: torch.stack([getattr(c, f.name) for c in clips]) for f in fields(ClipFeatures)})


def prepare(
    model: Reconstructor, data: SequenceData, folder: Path, report: Callable[[str], object]
) -> tuple[ClipFeatures, ClipFeatures]:
    """Training and held-out features: what is in the folder, and the rest made now.

    Clips are kept for any weights of the head model, tokens under the hash of the weights that made them.
    """
    network = FrameNetwork(model)
    if not network.has_tokens:
        raise CheckpointError("a temporal transformer needs a network with component tokens")
    shelf = ClipShelf(model.head, data, folder)
    numbers = render_clips(shelf, report)
    seen = make_folder(folder / f"tokens_{model.origin.weights_hash}_{shelf.key}_{data.views}")
    sets: list[list[ClipFeatures]] = []
    for held_out, wanted in enumerate(numbers):
        sets.append([])
        for number in wanted:
            path = seen / f"clip_{number:07d}.npz"
            if not path.is_file():
                clip = shelf.clip(number)
                seeds = (clip_seed(data.seed + 1, number * 8 + view) for view in range(1 if held_out else data.views))
                write_atomically(path, _bytes([_see(network, clip, model.crop_scale, seed) for seed in seeds]))
                if number % 10 == 0:
                    report(f"looked at clip {number - wanted.start} of {len(wanted)}")
            sets[-1] += _read(path)
    return ClipFeatures.stack(sets[0]), ClipFeatures.stack(sets[1])


def _see(network: FrameNetwork, clip: TrueClip, crop_scale: float, seed: int) -> ClipFeatures:
    """The clip as the tracker would see it: first a crop near the truth, then each from the landmarks before."""
    generator = np.random.default_rng(seed)
    first = crop_from_landmarks(clip.points[0], crop_scale)
    moved = np.add(first.centre, generator.normal(0, 0.05 * first.size, 2))
    crop = Crop((float(moved[0]), float(moved[1])), first.size * float(np.exp(generator.normal(0, 0.08))))
    tokens, crops = [], []
    for picture in clip.pictures:
        look = network.look(picture, [crop])[0]
        assert look.tokens is not None
        tokens.append(look.tokens)
        crops.append(torch.from_numpy(crop_vector(crop)))
        if np.isfinite(look.landmarks68).all():
            crop = following_crop(crop, look.landmarks68, look.roll, crop_scale)
    size = torch.tensor(float(clip.pictures.shape[1]))
    return ClipFeatures(tokens=torch.stack(tokens), crops=torch.stack(crops), size=size, **clip.truth)


def _bytes(views: list[ClipFeatures]) -> bytes:
    buffer = io.BytesIO()
    arrays = {
        f"{index}.{f.name}": getattr(view, f.name).numpy() for index, view in enumerate(views) for f in fields(view)
    }
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read(path: Path) -> Iterator[ClipFeatures]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"features '{path}' are damaged ({error}); delete that file") from error
    for index in range(len({name.split(".")[0] for name in arrays})):
        yield ClipFeatures(**{f.name: arrays[f"{index}.{f.name}"] for f in fields(ClipFeatures)})
