"""A few consecutive frames out of the middle of a video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tokenface.errors import DataError

CLIP_FRAMES = 7
"""Five middle frames with both neighbours (Sec. 3.3) of every clip; neighbouring frames teach little more."""
MAX_FRAME_PIXELS = 1 << 25


def read_clip(path: Path, frames: int = CLIP_FRAMES) -> list[np.ndarray]:
    """`frames` consecutive frames around the middle, [H, W, 3] uint8 RGB; fewer when the video is shorter.

    Raises:
        DataError: not a video that can be decoded.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(f"'{path}' is no video that can be read")
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_FRAME_PIXELS:
            raise DataError(f"the frames of '{path}' are larger than {MAX_FRAME_PIXELS >> 20} million pixels")
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for _ in range(max(0, (count - frames) // 2)):  # seeking is inexact in many containers
            if not capture.grab():
                break
        clip: list[np.ndarray] = []
        while len(clip) < frames:
            read, frame = capture.read()
            if not read:
                break
            clip.append(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        capture.release()
    if not clip:
        raise DataError(f"'{path}' has no frame that can be decoded")
    return clip
