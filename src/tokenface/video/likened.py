"""Likeness of people in clips: one correction of the shape per person, the mean of several looks.

A look costs more than a frame, and a person's shape does not change: the first frames of somebody are all looked at,
later ones now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tokenface.images.crop import extract
from tokenface.inference.pooling import LEAST
from tokenface.likeness.correction import Likeness
from tokenface.network.components import FaceParameters
from tokenface.video.answer import Answer

FIRST = 8
"""Frames of a person that are looked at one after the other."""
PAUSE = 0.5
"""Seconds between two looks later."""


@dataclass
class _Known:
    """total: [S] Σ weight · correction.  weight: Σ of confidences.  looks: how many.  last: time of the last one."""

    total: np.ndarray
    weight: float = 0.0
    looks: int = 0
    last: float = 0.0


class PeopleLikeness:
    """Running means of the corrections of everybody in a clip.

    Args:
        likeness: of the image model.  crop_size: pixels.
    """

    def __init__(self, likeness: Likeness, crop_size: int) -> None:
        self.likeness, self.crop_size = likeness, crop_size
        self._people: dict[int, _Known] = {}

    def look(self, image: np.ndarray, time: float, answers: Sequence[Answer]) -> None:
        """Take in what one frame says. image: [H, W, 3].  answers: the image model's, before any smoothing."""
        due = [answer for answer in answers if self._due(answer.person, time)]
        if not due:
            return
        crops = extract(image, [answer.crop for answer in due], self.crop_size)
        found = self.likeness.correction(crops, FaceParameters.stack([answer.parameters for answer in due]))
        for answer, correction in zip(due, found.double().numpy(), strict=True):
            known = self._people.setdefault(answer.person, _Known(np.zeros(len(correction))))
            weight = max(answer.evidence.confidence, LEAST)
            known.total = known.total + weight * correction
            known.weight, known.looks, known.last = known.weight + weight, known.looks + 1, time

    def applied(self, frames: Sequence[list[Answer]]) -> list[list[Answer]]:
        """The answers of some frames with their people's corrections, and with the cameras that keep them in place."""
        answers = [answer for frame in frames for answer in frame]
        if not answers:
            return [[] for _ in frames]
        means = [self._people[answer.person].total / self._people[answer.person].weight for answer in answers]
        rows = FaceParameters.stack([answer.parameters for answer in answers])
        moved = self.likeness.moved(rows, torch.from_numpy(np.stack(means)).float())
        better = iter([replace(answer, parameters=moved.row(i)) for i, answer in enumerate(answers)])
        return [[next(better) for _ in frame] for frame in frames]

    def state(self) -> dict[str, Any]:
        return {str(person): dict(vars(known)) for person, known in self._people.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self._people = {int(person): _Known(**known) for person, known in state.items()}

    def _due(self, person: int, time: float) -> bool:
        known = self._people.get(person)
        return known is None or known.looks < FIRST or time - known.last >= PAUSE
