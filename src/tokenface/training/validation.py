"""What a run is watched by: held-out photos' landmarks, held-out rendered people's neutral shape."""

from __future__ import annotations

import numpy as np
import torch

from tokenface.data.record import PhotoRecord
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import compare_with_mean_head, predict_neutral
from tokenface.evaluation.landmarks import evaluation_crops, normalised_mean_error, predict_landmarks
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace

HELD_OUT_SEED = 987_654_321
"""Rendered people of this seed are never trained on (training seeds are mixed from small numbers)."""
MAX_PHOTOS = 300


class Validation:
    """Prepared once, run often; every figure is of the weights that it is given."""

    def __init__(self, head: HeadModel, photos: list[PhotoRecord], size: int, people: int):
        self.head = head
        self.photos = None
        if photos:
            chosen = np.random.default_rng(0).permutation(len(photos))[:MAX_PHOTOS]
            self.photos = evaluation_crops([photos[i] for i in sorted(chosen)], size)
        batch = SyntheticFaces(head, size).sample(people, seed=HELD_OUT_SEED)
        self.images, self.neutral = batch.image, batch.neutral
        self.neutral_landmarks = head.landmarks68(batch.neutral)
        self.synthetic_landmarks = batch.landmarks68

    @torch.no_grad()
    def run(self, model: TokenFace) -> dict[str, float]:
        """Named figures: NME in per cent of √box, neutral shape as a ratio to the mean head's error."""
        figures: dict[str, float] = {}
        if self.photos is not None:
            images, truth = self.photos
            error = normalised_mean_error(predict_landmarks(model, self.head, images), truth)
            figures["photo_nme"] = float(error.mean()) * 100
        points = predict_landmarks(model, self.head, self.images)
        figures["synthetic_nme"] = float(normalised_mean_error(points, self.synthetic_landmarks).mean()) * 100
        shape = model(self.images).shape
        figures["shape_rms"] = float(shape.square().mean().sqrt())
        result = compare_with_mean_head(
            self.neutral.numpy(),
            self.neutral_landmarks.numpy(),
            predict_neutral(model, self.head, self.images).numpy(),
            self.head,
        )
        figures["neutral_ratio"] = result.ratio
        figures["neutral_mm"] = result.error
        return figures
