"""Token features of clips: tokens of the frozen image model, computed once, kept on disk, cut into windows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tokenface.core.arrays import open_arrays
from tokenface.core.files import make_folder, write_atomically
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer, crop_motion
from tokenface.training.temporal.clips import ClipShelf, TrueClip, clip_seed, render_clips
from tokenface.training.temporal.config import SequenceData
from tokenface.video.person import following_crop, moved_far
from tokenface.video.prediction import FrameView, certainty, crop_vector, predict_views


def follow(predictor: Predictor, pictures: Iterable[np.ndarray], crop: Crop) -> Iterator[FrameView]:
    """One prediction per frame [H, W, 3]: the first in the crop given, each other in the crop after the landmarks
    before, and the better of two where the face has moved far."""
    crop_scale = predictor.crop_scale
    for picture in pictures:
        view = predict_views(predictor, picture, [crop])[0]
        if np.isfinite(view.landmarks68).all():
            fresh = crop_from_landmarks(view.landmarks68, crop_scale, view.roll)
            if moved_far(crop, fresh):
                view = max(view, predict_views(predictor, picture, [fresh])[0], key=certainty)
        yield view
        crop = view.crop
        if np.isfinite(view.landmarks68).all():
            crop = following_crop(crop, view.landmarks68, view.roll, crop_scale)


def first_crop(points: np.ndarray, crop_scale: float, seed: int) -> Crop:
    """About where a detector would see a face with landmarks [68, 2]."""
    generator = np.random.default_rng(seed)
    exact = crop_from_landmarks(points, crop_scale)
    moved = np.add(exact.centre, generator.normal(0, 0.05 * exact.size, 2))
    return Crop((float(moved[0]), float(moved[1])), exact.size * float(np.exp(generator.normal(0, 0.08))))


T = TypeVar("T")


def packed(rows: Sequence[Any]) -> bytes:
    """Instances of a dataclass whose fields are all tensors."""
    buffer = io.BytesIO()
    arrays = {f"{index}.{f.name}": getattr(row, f.name).numpy() for index, row in enumerate(rows) for f in fields(row)}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpacked(path: Path, kind: type[T]) -> Iterator[T]:
    """Inverse of `packed` for instances of `kind`.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        with open_arrays(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"features '{path}' are damaged ({error}); delete that file") from error
    for index in range(len({name.split(".")[0] for name in arrays})):
        yield kind(**{f.name: arrays[f"{index}.{f.name}"] for f in fields(kind)})  # type: ignore[arg-type]


def steadied(module: TemporalTransformer, tokens: Tensor, crops: Tensor) -> Tensor:
    """Every frame of clips through the module; frames before the first and after the last are absent.

    Args:
        tokens: [N, T, K, D].  crops: [N, T, 4].
    Returns:
        [N, T, K, D].
    """
    clips, frames = tokens.shape[:2]
    places = torch.arange(frames)[:, None] + torch.tensor(module.window)
    present = (places >= 0) & (places < frames)
    index = places.clamp(0, frames - 1)
    windows = tokens[:, index].flatten(0, 1)
    motion = crop_motion(crops[:, index], crops[:, :, None]).to(tokens.dtype).flatten(0, 1)
    mixed = module(windows, present[None].expand(clips, -1, -1).flatten(0, 1), motion)
    return mixed.unflatten(0, (clips, frames))


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
