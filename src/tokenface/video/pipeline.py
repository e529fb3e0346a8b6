"""Tracker, temporal transformer and smoothing in a row, with a state that can be put on disk between two frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from tokenface.errors import CheckpointError
from tokenface.inference.confidence import Evidence
from tokenface.inference.reconstruct import Reconstructor
from tokenface.network.components import COMPONENTS, FaceParameters
from tokenface.network.temporal import TemporalTransformer, crop_motion
from tokenface.video.answer import Answer, FrameAnswers, crop_of, crop_vector
from tokenface.video.clip import Frame
from tokenface.video.finding import FaceFinder
from tokenface.video.look import FrameNetwork, one_of
from tokenface.video.one_euro import OneEuroSettings
from tokenface.video.smoothing import FaceSmoother
from tokenface.video.tracker import Seen, Tracker, TrackerOptions

Smoothing = Literal["none", "one-euro"]


@dataclass(frozen=True)
class PipelineOptions:
    """smooth: of the answers, after the temporal transformer if there is one."""

    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    smooth: Smoothing = "none"
    one_euro: OneEuroSettings = field(default_factory=OneEuroSettings)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frame of the ring: its people with tokens, which later frames may look back at."""

    index: int
    time: float
    cut: bool
    size: tuple[int, int]
    answers: list[Answer]
    tokens: list[torch.Tensor | None]


class Pipeline:
    """Push frames, get answers; with the centred temporal transformer they come one frame late.

    Args:
        model: the image model.
        temporal: the temporal transformer of the same image model; None: each frame by itself.
    Raises:
        CheckpointError: a temporal transformer for another kind of network.
    """

    def __init__(
        self, model: Reconstructor, options: PipelineOptions, temporal: TemporalTransformer | None = None
    ) -> None:
        self.network = FrameNetwork(model)
        if temporal is not None and not self.network.has_tokens:
            raise CheckpointError("the temporal transformer needs a network with component tokens; use --temporal off")
        self.temporal = None if temporal is None else temporal.eval()
        self.tracker = Tracker(self.network, FaceFinder(model.detector), options.tracker, model.crop_scale)
        self.smoother = FaceSmoother(options.one_euro) if options.smooth == "one-euro" else None
        self._ring: deque[_Kept] = deque(maxlen=3 if temporal is not None else 1)
        self._waiting = 0  # frames at the ring's end that have not been answered
        self.pushed = 0

    def push(self, frame: Frame) -> list[FrameAnswers]:
        """Answers that this frame makes possible: none, or those of one frame."""
        seen, cut = self.tracker.step(frame)
        size = (frame.image.shape[0], frame.image.shape[1])
        answers = [_answer(one, size) for one in seen]
        self._ring.append(_Kept(frame.index, frame.time, cut, size, answers, [one.look.tokens for one in seen]))
        self.pushed += 1
        self._waiting += 1
        lag = 0 if self.temporal is None else self.temporal.lag
        return self._release() if self._waiting > lag else []

    def flush(self) -> list[FrameAnswers]:
        """The answers that were waiting for frames that will not come."""
        released = []
        while self._waiting:
            released += self._release()
        return released

    def state(self) -> dict[str, Any]:
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

    def _release(self) -> list[FrameAnswers]:
        kept = self._ring[-self._waiting]
        self._waiting -= 1
        answers = kept.answers if self.temporal is None else self._steadied(self.temporal, kept)
        if self.smoother is not None:
            answers = self.smoother.step(kept.index, kept.time, answers)
        return [FrameAnswers(kept.index, kept.time, kept.cut, answers)]

    def _steadied(self, temporal: TemporalTransformer, kept: _Kept) -> list[Answer]:
        """The people of one frame from the tokens of its window."""
        if not kept.answers:
            return []
        windows = [self._window(temporal, kept, i) for i in range(len(kept.answers))]
        with torch.inference_mode():
            mixed = temporal(*(torch.stack(parts) for parts in zip(*windows, strict=True)))
        parameters = self.network.decode(mixed)
        return [
            Answer(a.person, a.scene, one_of(parameters, i), a.crop, a.size, a.evidence)
            for i, a in enumerate(kept.answers)
        ]

    def _window(
        self, temporal: TemporalTransformer, kept: _Kept, place: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[3, T, D] tokens, [3] present and [3, 4] crop motion around one face of one frame."""
        own, answer = kept.tokens[place], kept.answers[place]
        assert own is not None
        target = torch.from_numpy(crop_vector(answer.crop))
        tokens, present, crops = [], [], []
        for offset in temporal.window:
            neighbour = next((k for k in self._ring if k.index == kept.index + offset), None)
            found = None if neighbour is None else _same_person(neighbour, answer)
            tokens.append(own if found is None else found[0])
            crops.append(target if found is None else torch.from_numpy(crop_vector(found[1].crop)))
            present.append(found is not None)
        motion = crop_motion(torch.stack(crops), target).float()
        return torch.stack(tokens), torch.tensor(present), motion


def run(pipeline: Pipeline, frames: Iterator[Frame]) -> Iterator[FrameAnswers]:
    """All answers of all frames."""
    for frame in frames:
        yield from pipeline.push(frame)
    yield from pipeline.flush()


def _answer(seen: Seen, size: tuple[int, int]) -> Answer:
    return Answer(seen.person, seen.scene, seen.look.parameters, seen.look.crop, size, seen.evidence)


def _same_person(kept: _Kept, answer: Answer) -> tuple[torch.Tensor, Answer] | None:
    for tokens, other in zip(kept.tokens, kept.answers, strict=True):
        if other.person == answer.person and other.scene == answer.scene and tokens is not None:
            return tokens, other
    return None


def _kept_state(kept: _Kept) -> dict[str, Any]:
    return {
        "index": kept.index,
        "time": kept.time,
        "cut": kept.cut,
        "size": list(kept.size),
        "answers": [
            {
                "person": a.person,
                "scene": a.scene,
                "crop": crop_vector(a.crop),
                "evidence": dict(vars(a.evidence)),
                **{name: value.numpy() for name, value in a.parameters.items()},
            }
            for a in kept.answers
        ],
        "tokens": [None if tokens is None else tokens.numpy() for tokens in kept.tokens],
    }


def _kept(state: dict[str, Any]) -> _Kept:
    size = (int(state["size"][0]), int(state["size"][1]))
    answers = [
        Answer(
            int(a["person"]),
            int(a["scene"]),
            FaceParameters(**{name: torch.from_numpy(np.array(a[name])) for name in COMPONENTS}),
            crop_of(a["crop"]),
            size,
            Evidence(**a["evidence"]),
        )
        for a in state["answers"]
    ]
    tokens = [None if t is None else torch.from_numpy(np.array(t)) for t in state["tokens"]]
    return _Kept(int(state["index"]), float(state["time"]), bool(state["cut"]), size, answers, tokens)
