"""The frozen image model on the frames of a clip, in the crops that the tracker would give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.inference.predictor import Predictor
from tokenface.video.look import Look, certainty, look_at
from tokenface.video.person import following_crop, moved_far


def follow(predictor: Predictor, pictures: Iterable[np.ndarray], crop: Crop) -> Iterator[Look]:
    """One look a frame [H, W, 3]: the first in the crop given, each other in the crop after the landmarks before, and
    the better of two where the face has moved far."""
    crop_scale = predictor.crop_scale
    for picture in pictures:
        look = look_at(predictor, picture, [crop])[0]
        if np.isfinite(look.landmarks68).all():
            fresh = crop_from_landmarks(look.landmarks68, crop_scale, look.roll)
            if moved_far(crop, fresh):
                look = max(look, look_at(predictor, picture, [fresh])[0], key=certainty)
        yield look
        crop = look.crop
        if np.isfinite(look.landmarks68).all():
            crop = following_crop(crop, look.landmarks68, look.roll, crop_scale)


def first_crop(points: np.ndarray, crop_scale: float, seed: int) -> Crop:
    """About where a detector would see a face with landmarks [68, 2]."""
    generator = np.random.default_rng(seed)
    exact = crop_from_landmarks(points, crop_scale)
    moved = np.add(exact.centre, generator.normal(0, 0.05 * exact.size, 2))
    return Crop((float(moved[0]), float(moved[1])), exact.size * float(np.exp(generator.normal(0, 0.08))))
