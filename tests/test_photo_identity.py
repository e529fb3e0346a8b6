"""Variance of identity within and between people, on records whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tokenface.data.record import PhotoRecord
from tokenface.errors import EvaluationError
from tokenface.evaluation.photo_statistics import within_over_between
from tokenface.head.registry import load_head


def records(people: int, photos: int) -> list[PhotoRecord]:
    """Grey pictures, whose brightness is the number of the photo."""
    points = np.stack([np.linspace(20, 44, 68), np.linspace(22, 46, 68)], 1).astype(np.float32)
    return [
        PhotoRecord(np.full((64, 64, 3), (person * photos + photo) % 256, np.uint8), points, f"p{person}", "toy")
        for person in range(people)
        for photo in range(photos)
    ]


@pytest.mark.parametrize(("noise", "ratio"), [(0.0, 0.0), (0.5, 0.25), (2.0, 4.0)])
def test_the_ratio_is_that_of_the_variances_that_were_put_in(noise, ratio):
    head = load_head("openhead")
    generator = torch.Generator().manual_seed(0)
    people, photos = 60, 8
    true = torch.randn(people, 1, head.sizes.shape, generator=generator)
    shapes = (true + noise * torch.randn(people, photos, head.sizes.shape, generator=generator)).flatten(0, 1)

    def predict(images):
        numbers = (images.mean((1, 2, 3)) * 255).round().long() % 256
        return SimpleNamespace(shape=torch.stack([shapes[n] for n in _unwrapped(numbers)]))

    seen = iter(range(people * photos))

    def _unwrapped(numbers):
        indices = [next(seen) for _ in numbers]
        assert [i % 256 for i in indices] == numbers.tolist()  # each crop shows the photo that it stands for
        return indices

    found = within_over_between(predict, head, records(people, photos), 32)
    assert (found["people"], found["photos"]) == (people, people * photos)
    assert found["within / between"] == pytest.approx(ratio, rel=0.2, abs=1e-6)


def test_one_person_is_not_enough():
    with pytest.raises(EvaluationError, match="two people"):
        within_over_between(lambda images: None, load_head("openhead"), records(1, 4), 32)
