"""What a run is watched by: held-out photos' landmarks, held-out rendered people's neutral shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tokenface.data.record import PhotoRecord
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, compare_with_mean_head, predict_neutral
from tokenface.evaluation.landmarks import evaluation_crops, normalised_mean_error, predict_landmarks
from tokenface.head.model import HeadModel
from tokenface.network.components import FaceParameters
from tokenface.training.pictures import sample_sheet

HELD_OUT_SEED = 987_654_321
"""Rendered people of this seed are never trained on (training seeds are mixed from small numbers)."""
MAX_PHOTOS = 300
SHOWN = 3
"""Photos and rendered people on the sample pictures, each."""

Predict = Callable[[Tensor], FaceParameters]
"""Crops [B, 3, S, S] → parameters, both on the CPU; wherever the network is."""


class Validation:
    """Prepared once, run often; every figure is of the network that it is given. All on the CPU but the network.

    Args:
        head: on the CPU.  photos: held out of training.  size: of the crops.  people: rendered ones.
    """

    def __init__(self, head: HeadModel, photos: list[PhotoRecord], size: int, people: int):
        self.head = head
        self.photos: tuple[Tensor, Tensor] | None = None
        if photos:
            chosen = np.random.default_rng(0).permutation(len(photos))[:MAX_PHOTOS]
            self.photos = evaluation_crops([photos[i] for i in sorted(chosen)], size)
        batch = SyntheticFaces(head, size).sample(people, seed=HELD_OUT_SEED)
        self.images, self.scans = batch.image, PeopleScans.of(head, batch.neutral)
        self.synthetic_landmarks = batch.landmarks68

    @torch.no_grad()
    def run(self, predict: Predict) -> dict[str, float]:
        """Named figures: NME in per cent of √box, neutral shape as a ratio to the mean head's error."""
        figures: dict[str, float] = {}
        if self.photos is not None:
            images, truth = self.photos
            error = normalised_mean_error(predict_landmarks(predict, self.head, images), truth)
            figures["photo_nme"] = float(error.mean()) * 100
        points = predict_landmarks(predict, self.head, self.images)
        figures["synthetic_nme"] = float(normalised_mean_error(points, self.synthetic_landmarks).mean()) * 100
        shape = predict(self.images).shape
        figures["shape_rms"] = float(shape.square().mean().sqrt())
        predicted = predict_neutral(predict, self.head, self.images).numpy()
        result = compare_with_mean_head(self.scans, predicted, self.head)
        figures["neutral_ratio"] = result.ratio
        figures["neutral_mm"] = result.error
        return figures

    def sheet(self, predict: Predict) -> np.ndarray:
        """Some held-out photos and rendered people: photo, overlay, truth."""
        images, points = [self.images[:SHOWN]], [self.synthetic_landmarks[:SHOWN]]
        if self.photos is not None:
            images.insert(0, self.photos[0][:SHOWN])
            points.insert(0, self.photos[1][:SHOWN])
        return sample_sheet(predict, self.head, torch.cat(images), torch.cat(points))
