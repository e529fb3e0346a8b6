"""What a labelled photo is, before it is cropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PhotoRecord:
    """A photo with the 68 iBUG points of one face.

    image: [H, W, 3] uint8 RGB.  landmarks: [68, 2] float32, photo pixels (pixel centres at +0.5).
    identity: name of the person, for splits.  source: where it came from, for error messages.
    """

    image: np.ndarray
    landmarks: np.ndarray
    identity: str
    source: str


def split_by_identity(
    records: list[PhotoRecord], held_out_people: int, seed: int = 0
) -> tuple[list[PhotoRecord], list[PhotoRecord]]:
    """(training, held-out) records; a person is in one of them only, drawn by `seed` from the sorted names."""
    people = sorted({record.identity for record in records})
    if held_out_people >= len(people):
        raise ValueError(f"cannot hold {held_out_people} of {len(people)} people out of training")
    chosen = np.random.default_rng(seed).permutation(len(people))[:held_out_people]
    held = {people[i] for i in chosen}
    return (
        [record for record in records if record.identity not in held],
        [record for record in records if record.identity in held],
    )
