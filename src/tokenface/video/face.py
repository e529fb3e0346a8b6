"""Tracked frames and faces, the public results of a clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tokenface.head.model import HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.images.loading import ImageItem
from tokenface.inference.expressions import Gaze, blink_of, gaze_of
from tokenface.inference.face import Face, Origin
from tokenface.video.prediction import FramePredictions, PersonPrediction


@dataclass(frozen=True, eq=False)
class TrackedFace(Face):
    """A face of a frame. `person` is the same number for one person through the clip, gaps included; `index` is the
    place in the frame. `overlay` needs the frame's picture: `face.overlay(frame.image)`."""

    person: int = 0
    time: float = 0.0

    @property
    def head_pose(self) -> tuple[float, float, float]:
        """Yaw (to the right of the picture), pitch (up), roll (anticlockwise), degrees."""
        yaw, pitch, roll = np.degrees(self.camera.angles)
        return float(yaw), float(pitch), float(roll)

    @property
    def gaze(self) -> Gaze:
        return gaze_of(self.head, self.parameters, self.camera)

    @property
    def blink(self) -> tuple[float, float] | None:
        """Closure of the left and the right eye, in [0, 1]; None where the head model has no such action."""
        return blink_of(self.head, self.parameters)


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """index, time: of the frame, seconds from the clip's start.  image: [H, W, 3] uint8 RGB, upright.
    cut: the first frame of a new shot.  faces: by person."""

    index: int
    time: float
    image: np.ndarray = field(repr=False)
    faces: list[TrackedFace]
    cut: bool = False


class FaceMaker:
    """Predictions to faces, with the box that the landmarks span."""

    def __init__(self, head: HeadModel, origin: Origin, clip: str | Path) -> None:
        self.head, self.origin, self.clip = head, origin, str(clip)
        self._subset = VertexSubset(head, mesh468=False)

    def frame(self, frame: FramePredictions, image: np.ndarray) -> TrackedFrame:
        faces = [self.face(prediction, frame, place) for place, prediction in enumerate(frame.predictions)]
        return TrackedFrame(frame.index, frame.time, image, faces, frame.cut)

    def face(self, prediction: PersonPrediction, frame: FramePredictions, place: int = 0) -> TrackedFace:
        name = f"{Path(self.clip).stem} frame {frame.index}"
        return TrackedFace(
            parameters=prediction.parameters,
            camera=prediction.camera,
            box=self._box(prediction),
            confidence_features=prediction.confidence_features,
            head=self.head,
            item=ImageItem(name, self.clip),
            origin=self.origin,
            index=place,
            person=prediction.person,
            time=frame.time,
        )

    @torch.inference_mode()
    def _box(self, prediction: PersonPrediction) -> np.ndarray:
        """[4] x0, y0, x1, y1 of the 68 landmarks, frame pixels."""
        camera = prediction.camera
        vertices = self._subset.vertices(prediction.parameters[None])
        points = camera.project(self._subset.landmarks68(vertices, torch.tensor([camera.angles[0]]))[0].numpy())
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
