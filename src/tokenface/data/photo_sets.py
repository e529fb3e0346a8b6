"""A tar of real photos with landmarks, divided by person: for training, and held out of it."""

from __future__ import annotations

from dataclasses import dataclass

from tokenface.data.readers.landmark_tar import YOUTUBE_FACES_SHIFT, LandmarkShift, read_landmark_tar
from tokenface.data.record import PhotoRecord, split_by_identity


@dataclass(frozen=True)
class PhotoConfig:
    """Real photos with 68 landmarks; left out when `tar` is null."""

    tar: str | None = None
    share: float = 0.25  # of each batch
    held_out_people: int = 60
    split_seed: int = 0
    shift: LandmarkShift = YOUTUBE_FACES_SHIFT  # of the annotations; zeros for other sources
    source: str = "youtube_faces"  # whose label offsets are learned (network.label_sources)


def photo_records(config: PhotoConfig) -> tuple[list[PhotoRecord], list[PhotoRecord]]:
    """(training, held-out) photos of the configured tar; two empty lists without one."""
    if config.tar is None:
        return [], []
    records = list(read_landmark_tar(config.tar, config.shift))
    return split_by_identity(records, config.held_out_people, config.split_seed)
