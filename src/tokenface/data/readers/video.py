"""Consecutive frames of a video: from its middle, or window after window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tokenface.core.files import reason
from tokenface.data.record import VIDEO_SUFFIXES, Item
from tokenface.errors import DataError, VideoError
from tokenface.formats.clip_files import BT709, UNSPECIFIED, open_capture, open_clip, usual_matrix

CLIP_FRAMES = 7
"""Five middle frames with both neighbours (Sec. 3.3) of every clip; neighbouring frames teach little more."""
MAX_FRAME_PIXELS = 1 << 25


def windows_of(item: Item, frames: int) -> list[Item]:
    """A video as one item for every `frames` consecutive frames; anything else, and a video that is shorter or does
    not say how long it is, stays one item."""
    path = item.pictures[0]
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return [item]
    with _opened(path) as capture:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    starts = range(0, max(count - frames, 0) + 1, frames)
    return [replace(item, key=f"{item.key}-{first:06d}", note=f"{first}+{frames}") for first in starts]


def read_item(item: Item) -> list[np.ndarray]:
    """The frames of a video item: its window, or the middle."""
    if not item.note:
        return read_clip(item.pictures[0])
    first, _, frames = item.note.partition("+")
    return read_clip(item.pictures[0], int(frames), int(first))


def read_clip(path: Path, frames: int = CLIP_FRAMES, first: int | None = None) -> list[np.ndarray]:
    """`frames` consecutive frames, [H, W, 3] uint8 RGB, from the `first` on (about: containers seek as they can), or
    around the middle; fewer when the video is shorter.

    Raises:
        DataError: not a video that can be decoded.
    """
    with _opened(path) as capture:
        if not capture.isOpened():
            raise DataError(f"'{path}' is no video that can be read")
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_FRAME_PIXELS:
            raise DataError(f"the frames of '{path}' are larger than {MAX_FRAME_PIXELS >> 20} million pixels")
        _go_to(capture, frames, first)
        clip: list[np.ndarray] = []
        while len(clip) < frames:
            read, frame = capture.read()
            if not read:
                break
            clip.append(np.ascontiguousarray(frame[..., ::-1]))
    if not clip:
        raise DataError(f"'{path}' has no frame that can be decoded")
    if usual_matrix(clip[0].shape[1], clip[0].shape[0]) == BT709 and _names_no_matrix(path):
        change = _decoding(0.2126, 0.0722) @ np.linalg.inv(_decoding(0.299, 0.114))
        clip = [cv2.transform(frame, change) for frame in clip]
    return clip


def _names_no_matrix(path: Path) -> bool:
    """Whether OpenCV took BT.601 for want of a name; False without PyAV, which can tell."""
    try:
        with open_clip(path) as container:
            facts = container.streams.video[0].codec_context
            return facts.name != "mjpeg" and next(container.decode(video=0)).colorspace == UNSPECIFIED
    except (VideoError, OSError, ValueError, IndexError, StopIteration):
        return False


def _decoding(red: float, blue: float) -> np.ndarray:
    """[3, 3] YCbCr → RGB, by red's and blue's share of luma."""
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
            [1, 2 * (1 - blue), 0],
        ]
    )


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    try:
        with open_capture(path) as capture:
            yield capture
    except OSError as error:
        raise DataError(f"'{path}' is no video that can be read ({reason(error)})") from error


def _go_to(capture: cv2.VideoCapture, frames: int, first: int | None) -> None:
    if first is not None:  # counting up to every window of a long video would decode it over and over
        if first:
            capture.set(cv2.CAP_PROP_POS_FRAMES, first)
        return
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    for _ in range(max(0, (count - frames) // 2)):  # the middle itself is worth counting to: seeking is inexact
        if not capture.grab():
            break
