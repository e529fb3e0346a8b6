"""`model.track(clip)`: generator of frames with their faces."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokenface.core.prefetch import ahead
from tokenface.errors import VideoError
from tokenface.images.detector import FaceDetector
from tokenface.inference.predictor import Predictor
from tokenface.network.temporal import TemporalTransformer
from tokenface.video.clip import Frame
from tokenface.video.face import FaceMaker, TrackedFrame
from tokenface.video.picture_clip import open_clip
from tokenface.video.pipeline import TOGETHER, Pipeline, PipelineOptions, Smoothing
from tokenface.video.temporal_weights import Temporal, choose_temporal
from tokenface.video.tracker import TrackerOptions


def track(
    predictor: Predictor,
    detector: FaceDetector,
    source: str | Path | Iterable[Any],
    *,
    people: int | Literal["all"] = 1,
    temporal: Temporal = "auto",
    temporal_weights: str | Path | None = None,
    smooth: Smoothing = "none",
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
) -> Iterator[TrackedFrame]:
    """Follow the faces of a clip; memory does not grow with its length.

    Args:
        source: a video file, an animated WebP or PNG, a folder or pattern (`frames_%04d.png`) of numbered pictures, or
            an iterable of frames [H, W, 3] uint8 RGB (30 per second unless `fps` says otherwise).
        people: at most so many at a time, the largest faces; "all".
        temporal: "centred" (the paper's, one frame late) or "causal" (no delay) temporal transformer, "off", or
            "auto": centred where the weights come with one.
        temporal_weights: its file, in place of the one beside the weights.
        smooth: "one-euro" low-passes the predictions.
        start, end, fps: part of a file, and at most so many frames a second.
    Raises:
        VideoError: no video, or nothing in it that can be decoded.
        CheckpointError: the weights have no such temporal transformer.
    """
    module = choose_temporal(predictor, temporal, temporal_weights)
    if isinstance(source, str | Path):
        clip = open_clip(source, start, end, fps)
        options = pipeline_options(people, smooth, TOGETHER)
        return _frames(predictor, detector, ahead(clip.frames()), str(clip.path), options, module)
    return _frames(
        predictor, detector, numbered(source, fps or 30.0), "frames", pipeline_options(people, smooth), module
    )


def pipeline_options(people: int | Literal["all"], smooth: Smoothing, together: int = 1) -> PipelineOptions:
    if people != "all" and not (isinstance(people, int) and people >= 1):
        raise VideoError(f"people is a number from 1 on, or 'all', got {people!r}")
    return PipelineOptions(TrackerOptions(people=None if people == "all" else people), smooth, together=together)


def numbered(images: Iterable[Any], fps: float) -> Iterator[Frame]:
    """Arrays as frames with regular times."""
    for index, image in enumerate(images):
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise VideoError(f"a frame is uint8 [H, W, 3] RGB, got {array.dtype} {array.shape}")
        yield Frame(index, index / fps, array)


def _frames(
    predictor: Predictor,
    detector: FaceDetector,
    frames: Iterator[Frame],
    name: str,
    options: PipelineOptions,
    temporal: TemporalTransformer | None,
) -> Iterator[TrackedFrame]:
    pipeline, maker = (
        Pipeline(predictor, detector, options, temporal),
        FaceMaker(predictor.head, predictor.origin, name),
    )
    waiting: deque[Frame] = deque()
    for frame in frames:
        waiting.append(frame)
        for predictions in pipeline.push(frame):
            yield maker.frame(predictions, waiting.popleft().image)
    for predictions in pipeline.flush():
        yield maker.frame(predictions, waiting.popleft().image)
