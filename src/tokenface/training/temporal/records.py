"""Real clips from prepared shards: runs of frames of one face and shot, with cached token features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.files import make_folder, write_atomically
from tokenface.data.record import FaceRecord
from tokenface.data.shards.index import Entry, ShardIndex, find_shards
from tokenface.data.shards.members import decode_record
from tokenface.errors import DataError
from tokenface.geometry.crop import crop_from_landmarks
from tokenface.inference.predictor import Predictor
from tokenface.training.temporal.features import follow, packed, unpacked
from tokenface.video.cuts import CutDetector
from tokenface.video.prediction import FrameView, crop_vector

VERSION = 1
LOST = 0.16
"""Mean distance of the network's landmarks from the record's, over the size of their box, from which it looks at
something else (the tracker's own limit for a face that is lost)."""


@dataclass(frozen=True)
class RecordFeatures:
    """T consecutive frames of one real face; batches have a dimension N before. tokens: [T, K, D] of the image model.
    crops: [T, 4] that it saw, picture pixels.  points: [T, 68, 2] landmarks of the record, picture pixels, made frame
    by frame and so noisy.  visible: [T, 68] bool."""

    tokens: Tensor
    crops: Tensor
    points: Tensor
    visible: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def run(self, frames: slice) -> RecordFeatures:
        """Some of one clip's frames."""
        return RecordFeatures(**{f.name: getattr(self, f.name)[frames] for f in fields(self)})

    @staticmethod
    def stack(clips: list[RecordFeatures]) -> RecordFeatures:
        return RecordFeatures(
            **{f.name: torch.stack([getattr(c, f.name) for c in clips]) for f in fields(RecordFeatures)}
        )


class RecordClips:
    """The clips among the records of some shards, as features.

    Args:
        root: folder of shards.  folder: that keeps what the image model saw, by the hash of its weights.
        shortest: frames that a run must have to be of use.
    """

    def __init__(
        self, predictor: Predictor, root: str | Path, folder: Path, shortest: int, report: Callable[[str], object]
    ) -> None:
        self._predictor, self._report = predictor, report
        self._shortest = shortest
        self._folder = make_folder(folder / f"tokens_{predictor.origin.weights_hash}_records_v{VERSION}")
        self.root = Path(root)
        self._entries: list[tuple[ShardIndex, Entry]] = []
        for shard in find_shards(root):
            self._entries += [(shard, entry) for entry in shard.entries if entry.kind == "clip"]
        if not self._entries:
            raise DataError(
                f"no clips in the shards of '{root}'; prepare videos with 'tokenface prepare … --clip-frames 32'"
            )

    @property
    def people(self) -> list[str]:
        """Names, sorted; a record whose person nobody knows is a person of its own."""
        return sorted({person_of(entry) for _, entry in self._entries})

    def of(self, people: frozenset[str]) -> list[RecordFeatures]:
        """Runs of at least `shortest` frames of these people, in the order of the shards; damaged records are reported
        and left out.

        Raises:
            DataError: there are none.
        """
        wanted = [(shard, entry) for shard, entry in self._entries if person_of(entry) in people]
        runs: list[RecordFeatures] = []
        for number, (shard, entry) in enumerate(wanted):
            try:
                runs += [run for run in self._seen(shard, entry) if len(run) >= self._shortest]
            except DataError as error:
                self._report(f"left out: {error}")
            if (number + 1) % 20 == 0:
                self._report(f"looked at real clip {number + 1} of {len(wanted)}")
        if not runs:
            raise DataError(
                f"no clip of {', '.join(sorted(people))} in '{self.root}' has {self._shortest} good frames in a row; "
                "prepare longer ones with 'tokenface prepare … --clip-frames 32', or lower optimiser.length"
            )
        return runs

    def _seen(self, shard: ShardIndex, entry: Entry) -> list[RecordFeatures]:
        members = shard.read(entry)
        key = hashlib.sha256(members.get("json", b"")).hexdigest()[:12]  # holds the checksums of all the others
        path = self._folder / f"{entry.key}_{key}.npz"
        if not path.is_file():
            record = decode_record(entry.key, members)
            write_atomically(path, packed(see_record(self._predictor, record)))
        return list(unpacked(path, RecordFeatures))


def person_of(entry: Entry) -> str:
    return entry.identity or entry.key


def see_record(predictor: Predictor, record: FaceRecord) -> list[RecordFeatures]:
    """The record's frames as the tracker would see them: a new run begins at a cut, and after a lost face."""
    runs = []
    for shot in shots(record):
        start = shot.start
        while start < shot.stop:
            views = _views(predictor, record, range(start, shot.stop))
            if views:
                runs.append(_features(record, start, views))
            start += len(views) + 1
    return runs


def shots(record: FaceRecord) -> list[range]:
    """Frames of the record between cuts."""
    cuts = CutDetector()
    starts = [i for i, picture in enumerate(record.pictures) if cuts.step(picture.image) or i == 0]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(record.pictures)], strict=True)]


def _views(predictor: Predictor, record: FaceRecord, frames: range) -> list[FrameView]:
    """Of the frames up to the first in which the network sees something else than the record's face."""
    pictures = [record.pictures[i] for i in frames]
    views: list[FrameView] = []
    start = crop_from_landmarks(pictures[0].landmarks, predictor.crop_scale)
    for picture, view in zip(pictures, follow(predictor, (p.image for p in pictures), start), strict=True):
        apart = np.linalg.norm(view.landmarks68 - picture.landmarks, axis=-1).mean()
        if not apart <= LOST * np.ptp(picture.landmarks, axis=0).mean():
            break
        views.append(view)
    return views


def _features(record: FaceRecord, start: int, views: list[FrameView]) -> RecordFeatures:
    pictures = record.pictures[start : start + len(views)]
    return RecordFeatures(
        tokens=torch.stack([view.tokens for view in views if view.tokens is not None]),
        crops=torch.from_numpy(np.stack([crop_vector(view.crop) for view in views])),
        points=torch.from_numpy(np.stack([picture.landmarks for picture in pictures])),
        visible=torch.from_numpy(np.stack([picture.visible for picture in pictures])),
    )
