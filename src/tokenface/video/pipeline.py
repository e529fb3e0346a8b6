"""Tracking pipeline: tracker, temporal transformer and smoothing, with a serialisable state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from tokenface.errors import CheckpointError
from tokenface.images.detector import FaceDetector
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer, crop_motion
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.video.clip import Frame
from tokenface.video.finding import FaceFinder
from tokenface.video.identity import recognise
from tokenface.video.prediction import FramePredictions, PersonPrediction, crop_of, crop_vector
from tokenface.video.smoothing import FaceSmoother, OneEuroSettings
from tokenface.video.tracker import Seen, Tracker, TrackerOptions

Smoothing = Literal["none", "one-euro"]
TOGETHER = 8
"""`PipelineOptions.together` for files, whose predictions nobody waits for."""


@dataclass(frozen=True)
class PipelineOptions:
    """smooth: of the predictions, after the temporal transformer if there is one.  together: frames that the temporal
    transformer processes at once, for which the first of them wait: few large products cost less than many small
    ones."""

    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    smooth: Smoothing = "none"
    one_euro: OneEuroSettings = field(default_factory=OneEuroSettings)
    together: int = 1


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frame of the ring: its people with tokens, which later frames may attend to."""

    index: int
    time: float
    cut: bool
    size: tuple[int, int]
    predictions: list[PersonPrediction]
    tokens: list[torch.Tensor | None]


class Pipeline:
    """Push frames, get predictions; with the centred temporal transformer they come one frame late, and with
    `PipelineOptions.together` several at once.

    Args:
        predictor: the image model.  detector: finds faces in frames.
        temporal: the temporal transformer of the same image model; None: each frame by itself.
    Raises:
        CheckpointError: a temporal transformer for another kind of network.
    """

    def __init__(
        self,
        predictor: Predictor,
        detector: FaceDetector,
        options: PipelineOptions,
        temporal: TemporalTransformer | None = None,
    ) -> None:
        self.predictor = predictor
        if temporal is not None and not predictor.has_tokens:
            raise CheckpointError("the temporal transformer needs a network with component tokens; use --temporal off")
        self.temporal = None if temporal is None else temporal.eval()
        # as the face mesh: a detector of the caller's own may find what no recognition network knows
        who = recognise if isinstance(detector, FaceDetector) else None
        self.tracker = Tracker(predictor, FaceFinder(detector), options.tracker, predictor.crop_scale, who)
        self.smoother = FaceSmoother(options.one_euro) if options.smooth == "one-euro" else None
        self._together = 1 if temporal is None else options.together
        self._lag = 0 if temporal is None else temporal.lag
        reach = 0 if temporal is None else -min(temporal.window)
        self._ring: deque[_Kept] = deque(maxlen=reach + self._together + self._lag)
        self._waiting = 0  # frames at the ring's end without a prediction
        self.pushed = 0

    def push(self, frame: Frame) -> list[FramePredictions]:
        """Predictions that this frame makes possible, in order; or none yet."""
        seen, cut = self.tracker.step(frame)
        size = (frame.image.shape[0], frame.image.shape[1])
        predictions = [_prediction(one, size) for one in seen]
        self._ring.append(_Kept(frame.index, frame.time, cut, size, predictions, [one.view.tokens for one in seen]))
        self.pushed += 1
        self._waiting += 1
        return self._release(self._together) if self._waiting == self._lag + self._together else []

    def flush(self) -> list[FramePredictions]:
        """The predictions that were waiting for frames that will not come."""
        return self._release(self._waiting)

    def state(self) -> dict[str, Any]:
        """State that the next frames' predictions depend on, once all predictions of `push` have been taken."""
        return {
            "tracker": self.tracker.state(),
            "smoother": None if self.smoother is None else self.smoother.state(),
            "ring": [_kept_state(kept) for kept in self._ring],
            "waiting": self._waiting,
            "pushed": self.pushed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.tracker.restore(state["tracker"])
        if self.smoother is not None:
            self.smoother.restore(state["smoother"])
        self._ring.clear()
        self._ring.extend(_kept(entry) for entry in state["ring"])
        self._waiting, self.pushed = int(state["waiting"]), int(state["pushed"])

    def _release(self, count: int) -> list[FramePredictions]:
        """The predictions of the `count` frames that have waited longest."""
        due = list(self._ring)[len(self._ring) - self._waiting :][:count]
        self._waiting -= count
        predictions = [kept.predictions for kept in due]
        if self.temporal is not None:
            predictions = self._steadied(self.temporal, due)
        if self.smoother is not None:
            predictions = [self.smoother.step(k.index, k.time, own) for k, own in zip(due, predictions, strict=True)]
        return [FramePredictions(k.index, k.time, k.cut, own) for k, own in zip(due, predictions, strict=True)]

    def _steadied(self, temporal: TemporalTransformer, due: list[_Kept]) -> list[list[PersonPrediction]]:
        """The people of some frames from the tokens of their windows, all in one pass."""
        faces = [(kept, place) for kept in due for place in range(len(kept.predictions))]
        if not faces:
            return [[] for _ in due]
        by_index = {kept.index: kept for kept in self._ring}
        windows = [_window(temporal, by_index, kept, place) for kept, place in faces]
        tokens, present, crops = (torch.stack(parts) for parts in zip(*windows, strict=True))
        with torch.inference_mode():
            motion = crop_motion(crops, crops[:, temporal.target, None]).float()
            mixed = temporal(tokens, present, motion)
        parameters = iter(self.predictor.decoded(mixed))
        return [[replace(prediction, parameters=next(parameters)) for prediction in kept.predictions] for kept in due]


def _window(
    temporal: TemporalTransformer, ring: dict[int, _Kept], kept: _Kept, place: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[3, T, D] tokens, [3] present and [3, 4] crops around one face of one frame."""
    own, prediction = kept.tokens[place], kept.predictions[place]
    assert own is not None
    tokens, present, crops = [], [], []
    for offset in temporal.window:
        neighbour = kept if offset == 0 else ring.get(kept.index + offset)
        found = None if neighbour is None else _same_person(neighbour, prediction)
        tokens.append(own if found is None else found[0])
        crops.append(crop_vector(prediction.crop if found is None else found[1].crop))
        present.append(found is not None)
    return torch.stack(tokens), torch.tensor(present), torch.from_numpy(np.stack(crops))


def run(pipeline: Pipeline, frames: Iterator[Frame]) -> Iterator[FramePredictions]:
    """All predictions of all frames."""
    for frame in frames:
        yield from pipeline.push(frame)
    yield from pipeline.flush()


def _prediction(seen: Seen, size: tuple[int, int]) -> PersonPrediction:
    return PersonPrediction(
        seen.person, seen.scene, seen.view.parameters, seen.view.crop, size, seen.confidence_features
    )


def _same_person(kept: _Kept, prediction: PersonPrediction) -> tuple[torch.Tensor, PersonPrediction] | None:
    for tokens, other in zip(kept.tokens, kept.predictions, strict=True):
        if other.person == prediction.person and other.scene == prediction.scene and tokens is not None:
            return tokens, other
    return None


def _kept_state(kept: _Kept) -> dict[str, Any]:
    return {
        "index": kept.index,
        "time": kept.time,
        "cut": kept.cut,
        "size": list(kept.size),
        "predictions": [
            {
                "person": a.person,
                "scene": a.scene,
                "crop": crop_vector(a.crop),
                "evidence": dict(vars(a.confidence_features)),
                **{name: value.numpy() for name, value in a.parameters.items()},
            }
            for a in kept.predictions
        ],
        "tokens": [None if tokens is None else tokens.numpy() for tokens in kept.tokens],
    }


def _kept(state: dict[str, Any]) -> _Kept:
    size = (int(state["size"][0]), int(state["size"][1]))
    predictions = [
        PersonPrediction(
            int(a["person"]),
            int(a["scene"]),
            FaceParameters(**{name: torch.from_numpy(np.array(a[name])) for name in COMPONENTS}),
            crop_of(a["crop"]),
            size,
            ConfidenceFeatures(**a["evidence"]),
        )
        for a in (state["predictions"] if "predictions" in state else state["answers"])  # of an earlier version
    ]
    tokens = [None if t is None else torch.from_numpy(np.array(t)) for t in state["tokens"]]
    return _Kept(int(state["index"]), float(state["time"]), bool(state["cut"]), size, predictions, tokens)
