"""Video files to upright RGB frames with their times: display matrices, variable rates, colour and HDR, damage."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from tokenface.errors import VideoError
from tokenface.formats.clip_files import UNSPECIFIED, open_clip, usual_matrix
from tokenface.images.colour import PRIMARIES, TRANSFERS
from tokenface.images.loading import MAX_PIXELS
from tokenface.images.tone_mapping import BT2020_TO_BT709, tone_mapped

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Red's and blue's share of luma by number (ITU-T H.273)."""
FULL_RANGE = 2


@dataclass(frozen=True)
class Colours:
    """Colour description of a stream (ITU-T H.273): transfer, primaries, matrix; range is FFmpeg's.

    codec: FFmpeg's name of it.
    """

    transfer: int
    primaries: int
    matrix: int
    range: int
    codec: str = ""

    @classmethod
    def of(cls, stream: VideoStream) -> Colours:
        """As the decoder says once it has decoded a frame."""
        facts = stream.codec_context
        return cls(
            transfer=int(facts.color_trc or 0),
            primaries=int(facts.color_primaries or 0),
            matrix=int(facts.colorspace or 0),
            range=int(facts.color_range or 0),
            codec=facts.name,
        )

    def srgb(self, frame: VideoFrame) -> np.ndarray:
        """[H, W, 3] uint8 sRGB of a frame as it is stored."""
        curve = TRANSFERS.get(self.transfer)
        if curve is None:
            unsaid = UNSPECIFIED in (self.matrix, frame.colorspace) and not frame.format.is_rgb
            matrix = usual_matrix(frame.width, frame.height, self.codec) if unsaid else None
            return frame.to_ndarray(format="rgb24", src_colorspace=matrix)
        to_bt709 = PRIMARIES.get(self.primaries, BT2020_TO_BT709)
        return tone_mapped(_signal(frame, self.matrix, self.range), curve, to_bt709)


def _signal(frame: VideoFrame, colorspace: int, color_range: int) -> np.ndarray:
    """[H, W, 3] uint16, full range. The matrix is ours: FFmpeg's scaler loses some precision."""
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb48le")
    planes = np.ascontiguousarray(frame.to_ndarray(format="yuv444p16le"))
    red, blue = MATRICES.get(colorspace, MATRICES[9])
    green = 1 - red - blue
    black, luma, chroma = (0.0, 1.0, 1.0) if color_range == FULL_RANGE else (4096.0, 65535 / 56064, 65535 / 57344)
    colour = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * (1 - blue) * blue / green * chroma, -2 * (1 - red) * red / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    shift = -colour @ np.array([black, 32768.0, 32768.0])
    rgb = cv2.transform(planes.astype(np.float32), np.hstack([colour, shift[:, None]]).astype(np.float32))
    return np.clip(np.rint(rgb), 0, 65535).astype(np.uint16)


if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

T = TypeVar("T")

USUAL_RATE = 30.0
"""Frames per second of a file that does not say."""
TOLERANCE = 1e-4
"""Seconds by which a frame may come early and still count as due: time stamps are rounded."""


@dataclass(frozen=True, eq=False)
class Frame:
    """index: place among the frames that were asked for.  time: seconds on the clip's own clock.
    image: [H, W, 3] uint8 RGB, upright."""

    index: int
    time: float
    image: np.ndarray


@dataclass(frozen=True)
class ClipFacts:
    """width, height: of upright frames, pixels.  rate: mean frames per second.  duration: seconds, None when the
    file does not say.  rotation: degrees anticlockwise that frames are turned by, after left and right have changed
    places where they are `mirrored`.  audio: whether there is sound."""

    width: int
    height: int
    rate: float
    duration: float | None
    rotation: int
    audio: bool
    mirrored: bool = False


class Clip:
    """A video file, or a part of one. Every call of `frames` decodes it anew.

    Args:
        path: anything that FFmpeg reads.
        start, end: seconds; frames with start ≤ time < end are taken.
        fps: at most so many frames per second, chosen by their times; None: all.
        max_pixels: width × height that is still accepted.
    Raises:
        VideoError: PyAV is missing, no such file, no video in it, or no frame that can be decoded.
    """

    def __init__(
        self,
        path: str | Path,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.path = Path(path).expanduser()
        self.start, self.end, self.fps, self.max_pixels = start or 0.0, end, fps, max_pixels
        if self.end is not None and self.end <= self.start:
            raise VideoError(
                f"the part of '{self.path}' to track ends ({self.end} s) before it starts ({self.start} s)"
            )
        if fps is not None and not fps > 0:
            raise VideoError(f"--fps must be more than 0, got {fps}")
        self.damaged_packets = 0
        self.facts = self._facts()

    @property
    def identity(self) -> str:
        """Which clip this is: place, size and time of its file."""
        path = self.path.resolve()
        status = path.stat()
        return f"{path} {status.st_size} {status.st_mtime_ns}"

    @property
    def expected_frames(self) -> int | None:
        """About how many frames there will be; None when the file does not say how long it is."""
        if self.facts.duration is None:
            return None
        length = min(self.end or math.inf, self.facts.duration) - self.start
        return max(1, round(length * self.rate))

    @property
    def rate(self) -> float:
        """Frames per second after the selection."""
        return min(self.facts.rate, self.fps or math.inf)

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        """Frames in order, from number `skip` on (earlier ones are decoded, since their successors build on them,
        but not converted). Damaged packets are passed over and counted in `damaged_packets`.

        Raises:
            VideoError: nothing could be decoded.
        """
        self.damaged_packets = 0
        index = 0
        with open_clip(self.path, self.max_pixels) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            timed = _timed(self._decoded(container, stream), stream)
            for decoded, time in chosen(timed, self.start, self.end, self.fps):
                if index >= skip:
                    yield Frame(index, time, self._upright(decoded))
                index += 1
        if index == 0:
            part = f" between {self.start} s and {self.end or 'the end'}" if self.start or self.end else ""
            raise VideoError(f"'{self.path}' has no frame that can be decoded{part}; is the file complete?")

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                yield from packet.decode()
            except (StopIteration, EndOfFile):
                return
            except FFmpegError:
                self.damaged_packets += 1
                if self.damaged_packets > 10_000:
                    return

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise VideoError(f"'{self.path}' has frames of {width} × {height} pixels, more than {self.max_pixels}")

    def _upright(self, frame: VideoFrame) -> np.ndarray:
        self._check_size(frame.width, frame.height)  # a stream may change it
        image = self._colours.srgb(frame)
        width = _square_width(image.shape[1], self._aspect)
        if width != image.shape[1]:
            image = cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_AREA)
        if self.facts.mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, self.facts.rotation // 90))

    def _facts(self) -> ClipFacts:
        with open_clip(self.path, self.max_pixels) as container:
            if not container.streams.video:
                raise VideoError(f"'{self.path}' has no video stream ({len(container.streams.audio)} of sound)")
            stream = container.streams.video[0]
            self._aspect = float(stream.sample_aspect_ratio or 1) or 1.0
            if stream.codec_context is None:
                raise VideoError(f"'{self.path}' is encoded in a way that FFmpeg does not know; save it as MP4")
            self._check_size(stream.codec_context.width or 0, stream.codec_context.height or 0)
            frame = next(self._decoded(container, stream), None)
            if frame is None:
                raise VideoError(f"'{self.path}' has no frame that can be decoded; is the file complete?")
            self._colours = Colours.of(stream)
            rotation, mirrored = _orientation(frame)
            width, height = _square_width(frame.width, self._aspect), frame.height
            self._check_size(width, height)
            if rotation % 180:
                width, height = height, width
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            duration = None
            if stream.duration and stream.time_base:
                duration = float(stream.duration * stream.time_base)
            elif container.duration:
                duration = container.duration / 1e6
            audio = any(s.codec_context is not None for s in container.streams.audio)
        rate = rate if 0 < rate < 1000 else USUAL_RATE
        return ClipFacts(width, height, rate, duration, rotation, audio, mirrored)


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Rotation and mirror of `ClipFacts` from the display matrix, as players show the frame.

    The matrix [a b u; c d v; x y w] of ISO/IEC 14496-12, 8.2.2.3, takes pixels (x right, y down) to the display:
    p = a·x + c·y, q = b·x + d·y. Cameras turn by quarters and editors flip; what is between goes to the nearest.
    """
    parts: Any = frame.side_data  # a mapping that iterates over its values, which its annotations deny
    matrix = next((bytes(part) for part in parts if part.type.name == "DISPLAYMATRIX"), None)
    if matrix is None or len(matrix) < 36:
        return 0, False
    a, b, _, c, d = struct.unpack("<5i" if sys.byteorder == "little" else ">5i", matrix[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (180 if d < 0 else 0), (a < 0) != (d < 0)
    return (90 if c > 0 else 270), (b < 0) == (c < 0)


def chosen(
    timed: Iterable[tuple[T, float]], start: float, end: float | None, fps: float | None
) -> Iterator[tuple[T, float]]:
    """Frames with a time from `start` on and before `end`, at most `fps` a second."""
    due = start
    for value, time in timed:
        if end is not None and time >= end:
            return
        if time + TOLERANCE < due:
            continue
        if fps is not None:
            due = max(due + 1 / fps, time - 1 / fps)
        yield value, time


def _timed(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[tuple[VideoFrame, float]]:
    """Frames with their times in seconds, counted from the stream's start and always growing."""
    step = 1 / float(stream.average_rate or USUAL_RATE)
    base = float(stream.time_base or 0)
    offset = float((stream.start_time or 0) * base)
    last = -math.inf
    for frame in frames:
        time = frame.pts * base - offset if frame.pts is not None and base else last + step
        if not math.isfinite(time):
            time = 0.0
        if time <= last:  # broken clocks repeat or run backwards
            time = last + step
        yield frame, time
        last = time


def _square_width(width: int, aspect: float) -> int:
    """Width in square pixels of frames whose pixels are `aspect` times as wide as high."""
    return width if abs(aspect - 1) < 1e-3 or not 0.1 < aspect < 10 else max(1, round(width * aspect))
