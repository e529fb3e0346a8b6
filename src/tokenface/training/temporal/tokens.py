"""Component tokens of clips: seen by the frozen image model as the tracker would, kept in files, cut into windows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tokenface.core.arrays import open_arrays
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer, crop_motion
from tokenface.video.person import following_crop, moved_far
from tokenface.video.prediction import FrameView, certainty, predict_views


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
    """What `packed` made of instances of `kind`.

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
