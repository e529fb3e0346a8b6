"""Clips made on the spot, and a network that follows painted marks: the tracker's logic without its costs."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
import torch
from stand_ins import MARK, MarkDetector, MarkNetwork
from torch import Tensor
from toy_head import toy_head_data

from tokenface.formats import mp4
from tokenface.head.model import HeadModel
from tokenface.inference.face import Origin
from tokenface.jobs import track
from tokenface.model import Reconstructor
from tokenface.parameters import FaceParameters
from tokenface.video.pipeline import TOGETHER

CROP_OVER_MARK = 2.0


class FollowingNetwork(MarkNetwork):
    """Lays the head on the mark so that the crop around its landmarks is twice the mark, wherever it started. Without
    a mark the head falls apart, as a lost face's does. A little of the prediction depends on every pixel."""

    def __init__(self, head: HeadModel) -> None:
        super().__init__(head)
        points = head.landmarks68(head().vertices)[0, :, :2]
        self.extent = float((points.amax(0) - points.amin(0)).mean())
        self.middle = ((points.amax(0) + points.amin(0)) / 2).tolist()

    def forward(self, images: Tensor) -> FaceParameters:
        found = super().forward(images)
        camera = found.camera.clone()
        side = camera[:, 0] / 10  # of the mark over the crop
        camera[:, 0] = side * 2 * CROP_OVER_MARK / (self.extent * 1.375)
        camera[:, 4] -= camera[:, 0] * self.middle[0]
        camera[:, 5] -= camera[:, 0] * self.middle[1]
        grain = images.mean(dim=(1, 2, 3))
        expression = (found.expression * 0 + 0.3 + 0.4 * grain[:, None]).clamp(0, 1)
        zeros = torch.zeros_like(found.shape)
        return found.replace(camera=camera, expression=expression, shape=zeros + grain[:, None], jaw=found.jaw * 0)


def following_model(seed: int = 0) -> Reconstructor:
    head = HeadModel(toy_head_data(seed))
    return Reconstructor(
        FollowingNetwork(head), head, 64, Origin("stand-in", "0" * 16, head.data.geometry_hash()), "cpu", MarkDetector()
    )


CHUNK = 2 * TOGETHER
"""Frames of a chunk of `lossless`: the fewest with two groups of predictions."""


def lossless(clip: Path, out: Path) -> None:
    """A whole smoothed run in short chunks, whose overlay is encoded without loss."""
    usual, mp4.QUALITY = mp4.QUALITY, "0"
    frames, track.CHUNK_FRAMES = track.CHUNK_FRAMES, CHUNK
    try:
        for _ in track.TrackRun(clip, out, track.TrackOptions(smooth="one-euro"), following_model()):
            pass
    finally:
        mp4.QUALITY, track.CHUNK_FRAMES = usual, frames


def kill_at(owner: type, method: str, call: int) -> None:
    """From now on this process kills itself, as nothing can prevent, at the given call of a method."""
    usual, calls = getattr(owner, method), count(1)

    def deadly(*arguments, **options):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*arguments, **options)

    setattr(owner, method, deadly)


def scene(
    *marks: tuple[float, float, int] | tuple[float, float, int, tuple[int, int, int]],
    size: tuple[int, int] = (120, 160),
    ground: tuple[int, int, int] = (128, 128, 128),
) -> np.ndarray:
    """[H, W, 3] uint8: a red square (x, y, side) per face, on a patch of the colour that the person wears."""
    image = np.empty((*size, 3), np.uint8)
    image[:] = ground
    for mark in marks:
        x, y, side = round(mark[0]), round(mark[1]), mark[2]
        if len(mark) > 3:
            low, high = (max(y - side // 2, 0), max(x - side // 2, 0)), (y + side * 3 // 2, x + side * 3 // 2)
            image[low[0] : high[0], low[1] : high[1]] = mark[3]  # type: ignore[misc]
        image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = MARK
    return image


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    rate: float = 30,
    times: Sequence[float] | None = None,
    sound: bool = False,
    codec: str = "libx264",
    frames_kept: int | None = None,
) -> Path:
    """A video file of these frames (nearly lossless), at these times, with a tone if wanted; with none but the first
    `frames_kept` if that is said."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000), options={"crf": "4"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        audio = container.add_stream("aac", rate=44_100) if sound else None
        if frames_kept == 0:
            container.start_encoding()
        for index, image in enumerate(frames[:frames_kept]):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            time = index / rate if times is None else times[index]
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            blocks = round(len(frames) / rate * 44_100) // 1024
            wave = np.sin(np.arange(blocks * 1024) * 2 * np.pi * 440 / 44_100).astype(np.float32)
            for block in range(blocks):
                piece = av.AudioFrame.from_ndarray(wave[None, block * 1024 : (block + 1) * 1024], "fltp", "mono")
                piece.rate, piece.pts = 44_100, block * 1024
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def set_display_rotation(path: Path, degrees: int) -> None:
    """Clockwise for display, as cameras write it."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    set_display_matrix(path, cos, sin, -sin, cos)


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write the track's matrix by hand (ISO/IEC 14496-12, 8.3.2): the pixel (x, y) is shown at (ax + cy, bx + dy)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of other fields
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
