"""Refinement of a clip: one albedo from a few good frames, one shape, every frame fitted to both."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tokenface.core.arrays import open_arrays
from tokenface.core.files import make_folder, write_atomically
from tokenface.errors import OutputError, VideoError
from tokenface.geometry.camera import Camera
from tokenface.inference.confidence import confidences
from tokenface.inference.refinement import Change, RefineOptions
from tokenface.parameters import COMPONENTS
from tokenface.refinement.refine import Refiner
from tokenface.video.clip import Clip
from tokenface.video.face import FaceMaker, TrackedFace
from tokenface.video.outputs import Identity, identities
from tokenface.video.prediction import FramePredictions, PersonPrediction
from tokenface.video.store import Store, npz_bytes

FRAMES = 8
TRUSTED = 0.8
"""A frame counts whose confidence is at least this share of the person's best."""
DOUBTFUL = 0.2
"""A person whose best frame is less confident is not refined: a wrong face would be fitted to what is not one."""
TURN = 30.0
"""Degrees of yaw that make two frames as different as the clip's two ends do."""
OPTIONS = RefineOptions(tuple(name for name in COMPONENTS if name != "shape"), focal="none")
"""Videos do not say what lens they were taken with. The shape stays what the tracker pooled over the clip: fitted to
the pixels of a few frames it got worse (`docs/refinement.md`)."""


@dataclass(frozen=True)
class RefinedPerson:
    """identity: from the frames of `record`, or the pooled one.  record: what was done, as it stands in track.json;
    None: no frame of the person is confident enough."""

    identity: Identity
    record: dict[str, Any] | None


class ClipRefiner:
    """Refines the people of a tracked clip; goes on where an earlier one was killed.

    Iterate to do the work (numbers of finished frames); then `people`, and `results`: the store of refined predictions.

    Args:
        store: of all the tracker's predictions.  count: frames that a person's identity comes from, at most.
    Raises:
        VideoError: the clip has changed since it was tracked.  OutputError: a stored file is damaged.
    """

    def __init__(self, refiner: Refiner, clip: Clip, store: Store, count: int = FRAMES) -> None:
        self.refiner, self.clip, self.store, self.count = refiner, clip, store, count
        self.results = Store(make_folder(store.folder / "refined"))
        self.people: dict[int, RefinedPerson] = {}
        self._maker = FaceMaker(refiner.head, refiner.predictor.origin, clip.path)

    def __iter__(self) -> Iterator[int]:
        for person, pooled in identities(self.store).items():
            self.people[person] = self._person(person, pooled)
            yield 0
        yield from self._frames()

    def _person(self, person: int, pooled: Identity) -> RefinedPerson:
        path = self.results.folder / f"person_{person:02d}.npz"
        if not path.is_file():
            write_atomically(path, npz_bytes(self._refined(person, pooled)))
        try:
            with open_arrays(path) as file:
                shape, texture = (torch.from_numpy(file[name]) for name in ("shape", "texture"))
                record = json.loads(file["record"].tobytes())
        except (OSError, ValueError, KeyError) as error:
            raise OutputError(f"'{path}' is damaged ({error}); start over with --overwrite") from error
        return RefinedPerson(replace(pooled, shape=shape, texture=texture), record)

    def _refined(self, person: int, pooled: Identity) -> dict[str, np.ndarray]:
        began = time.process_time()
        faces = frames_faces(
            self._maker, self.store, person, chosen_frames(self.store, person, self.count), pooled.shape
        )
        texture, record = pooled.texture, None
        if faces:
            images = frames_images(self.clip, list(faces))
            refined = self.refiner(list(faces.values()), images, OPTIONS)
            texture = refined[0].parameters.texture
            told = [face.refined for face in refined if face.refined is not None]
            record = {
                "frames": list(faces),
                "points": _mean_change([one.points for one in told]),
                "photometric": _mean_change([one.photometric for one in told]),
                "seconds": round(time.process_time() - began, 3),
            }
        text = np.frombuffer(json.dumps(record).encode(), np.uint8)
        return {"shape": pooled.shape.numpy(), "texture": texture.numpy(), "record": text}

    def _frames(self) -> Iterator[int]:
        """Every prediction under its person's refined identity, a chunk at a time."""
        found = self.results.state()
        first, sums = (0, {}) if found is None else (found[0], found[1]["sums"])
        done = 0
        for number in self.store.chunk_numbers():
            frames = self.store.frames(number)
            if number >= first:
                fitted = [
                    replace(frame, predictions=[self._fitted(a, frame, sums) for a in frame.predictions])
                    for frame in frames
                ]
                self.results.append(number, fitted, {"sums": sums})
            done += len(frames)
            yield done
        for person, one in self.people.items():
            if one.record is not None and str(person) in sums:
                before, after, seconds, count = sums[str(person)]
                every = {
                    "before": round(before / count, 4),
                    "after": round(after / count, 4),
                    "seconds": round(seconds, 3),
                }
                self.people[person] = replace(one, record={**one.record, "every_frame": every})

    def _fitted(
        self, prediction: PersonPrediction, frame: FramePredictions, sums: dict[str, list[float]]
    ) -> PersonPrediction:
        one = self.people[prediction.person]
        if one.record is None:
            return prediction
        began = time.process_time()
        face = self._maker.face(prediction, frame)
        parameters, change = self.refiner.keeping_points(face, one.identity.shape, one.identity.texture)
        if change is not None:
            total = sums.setdefault(str(prediction.person), [0.0, 0.0, 0.0, 0])
            news = (change.before, change.after, time.process_time() - began, 1)
            sums[str(prediction.person)] = [old + new for old, new in zip(total, news, strict=True)]
        return replace(prediction, parameters=parameters)


def chosen_frames(store: Store, person: int, count: int) -> list[int]:
    """Numbers of at most `count` frames that show the person well, as different in yaw and time as there are.

    The most confident comes first; then, again and again, the one farthest from all that are chosen. None where even
    the best is doubtful.
    """
    index, confidence, yaw = (np.concatenate(parts) for parts in zip(*_signs(store, person), strict=True))
    best = float(confidence.max())
    if best < DOUBTFUL:
        return []
    good = confidence >= TRUSTED * best
    index, confidence, yaw = index[good], confidence[good], yaw[good]
    place = np.stack([yaw / TURN, (index - index[0]) / max(int(np.ptp(index)), 1)], axis=1)
    chosen = [int(confidence.argmax())]
    distance = np.full(len(index), np.inf)
    while len(chosen) < min(count, len(index)):
        distance = np.minimum(distance, np.linalg.norm(place - place[chosen[-1]], axis=1))
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return sorted(int(index[i]) for i in chosen)


def frames_faces(
    maker: FaceMaker, store: Store, person: int, wanted: list[int], shape: torch.Tensor
) -> dict[int, TrackedFace]:
    """A person's faces by frame number, all with this shape [S]."""
    found, left = {}, set(wanted)
    for number in store.chunk_numbers() if left else ():
        for frame in store.frames(number):
            for prediction in frame.predictions if frame.index in left else ():
                if prediction.person == person:
                    face = maker.face(prediction, frame)
                    found[frame.index] = replace(face, parameters=face.parameters.replace(shape=shape))
    return found


def frames_images(clip: Clip, wanted: list[int]) -> list[np.ndarray]:
    """The frames of these numbers, ascending, decoded again.

    Raises:
        VideoError: the clip has changed since it was tracked.
    """
    images: dict[int, np.ndarray] = {}
    for frame in clip.frames(skip=wanted[0]):
        if frame.index in wanted:
            images[frame.index] = frame.image
        if frame.index >= wanted[-1]:
            break
    if len(images) < len(wanted):
        raise VideoError(f"'{clip.path}' has changed since it was tracked; track it again with --overwrite")
    return [images[index] for index in wanted]


def _signs(store: Store, person: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frame number, confidence and yaw (degrees) of every frame with the person, a chunk at a time."""
    for chunk in store.chunks():
        own = np.flatnonzero(chunk["person"] == person)
        if len(own):
            angles = Camera.from_vector(torch.from_numpy(chunk["camera"][own])).angles()
            yield (
                chunk["frame_index"][chunk["row"][own]],
                confidences(chunk["evidence"][own]),
                np.degrees(angles[:, 0].numpy()),
            )


def _mean_change(changes: list[Change | None]) -> dict[str, float] | None:
    known = [change for change in changes if change is not None]
    if not known:
        return None
    return {name: round(float(np.mean([getattr(one, name) for one in known])), 4) for name in ("before", "after")}
