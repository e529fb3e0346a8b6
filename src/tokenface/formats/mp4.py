"""MP4 output: chunks encoded one by one (resumable), concatenated with the clip's sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tokenface.core.files import replacing
from tokenface.errors import VideoError
from tokenface.formats.clip_files import import_av, open_clip, usual_matrix

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

CLOCK = Fraction(1, 90_000)
"""Time base of everything that is written: fine enough for every usual frame rate, and for irregular ones."""
QUALITY = "20"
LIMITED_RANGE = 1
"""FFmpeg's number for luma from 16 to 235."""
PRIMING = 0.03
"""Seconds of sound before the first picture that are kept: a packet of AAC."""
MP4_AUDIO = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")
"""Sound that an MP4 carries as it is; other sound becomes AAC."""


def encode_piece(path: Path, frames: Iterable[tuple[float, np.ndarray]], rate: float) -> Path:
    """Encode pictures into a piece that begins with a key frame.

    Args:
        path: ends in `.nut`, which keeps time stamps exactly.
        frames: (seconds, [H, W, 3] uint8 RGB); odd sides lose nothing, their last row or column is repeated.
        rate: about how many frames there are a second.
    Raises:
        VideoError: FFmpeg cannot encode.  OutputError: the disk is full, or no permission.
    """
    av = import_av()
    with _encoding(av, path) as part, av.open(str(part), "w", format="nut") as container:
        stream = None
        for time, image in frames:
            picture = _even(image)
            if stream is None:
                stream = _video_stream(av, container, picture.shape, rate)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=stream.codec_context.colorspace)
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return path


def join_pieces(
    path: str | Path, pieces: Sequence[Path], sound: Path | None = None, start: float = 0.0, end: float | None = None
) -> Path:
    """Put pieces one after the other into an MP4, with the sound of a clip.

    Args:
        sound: the clip; None, or a clip without sound: silent.
        start, end: seconds of the clip that the pieces show; the file begins at 0.
    Raises:
        VideoError, OutputError: as `encode_piece`.
    """
    av = import_av()
    path = Path(path)
    options = {"movflags": "+faststart"}
    with (
        _encoding(av, path) as part,
        av.open(str(part), "w", format="mp4", options=options) as out,
        open_clip(sound) if sound is not None else nullcontext() as source,
    ):
        _join(av, out, pieces, source, start, end)
    return path


@contextmanager
def _encoding(av: Any, path: Path) -> Iterator[Path]:
    """`replacing`, with FFmpeg's refusals as one line."""
    with replacing(path) as part:
        try:
            yield part
        except av.error.FFmpegError as error:
            raise _refused(path, error) from error


def _join(
    av: Any,
    out: OutputContainer,
    pieces: Sequence[Path],
    source: InputContainer | None,
    start: float,
    end: float | None,
) -> None:
    video = None
    sound = _Sound(av, out, source, start, end) if source is not None and source.streams.audio else None
    for piece in pieces:
        with av.open(str(piece)) as container:
            stream = container.streams.video[0]
            if video is None:
                video = out.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.pts is None or not packet.size:
                    continue
                if sound is not None:
                    sound.until(float(packet.pts * packet.time_base) - start)
                packet.pts -= round(start / packet.time_base)
                packet.dts = packet.pts
                packet.stream = video
                out.mux(packet)
    if sound is not None:
        sound.finish()


class _Sound:
    """A clip's first sound track, copied where MP4 takes it, else as AAC; fed along with the picture."""

    def __init__(self, av: Any, out: OutputContainer, source: InputContainer, start: float, end: float | None) -> None:
        self.out, self.start, self.end = out, start, end
        self.stream = source.streams.audio[0]
        self.copied = self.stream.codec_context.name in MP4_AUDIO
        first = source.streams.video[0] if source.streams.video else self.stream
        self.origin = float((first.start_time or 0) * (first.time_base or 0))
        if self.copied:
            self.track = out.add_stream_from_template(self.stream)
        else:
            self.track = out.add_stream("aac", rate=self.stream.rate)
            self.resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self.stream.rate)
        self._packets = self._in_range(av, source)
        self._next = next(self._packets, None)

    def until(self, time: float) -> None:
        """Everything up to this second of the output."""
        while self._next is not None and self._next[0] <= time:
            self._write(self._next[1])
            self._next = next(self._packets, None)

    def finish(self) -> None:
        self.until(float("inf"))
        if not self.copied:
            for frame in self.resampler.resample(None):
                self.out.mux(self.track.encode(frame))
            self.out.mux(self.track.encode(None))

    def _in_range(self, av: Any, source: InputContainer) -> Iterator[tuple[float, Any]]:
        try:
            for packet in source.demux(self.stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                time = float(packet.pts * packet.time_base) - self.origin
                if self.end is not None and time >= self.end:
                    return
                if time >= self.start - PRIMING:
                    yield time - self.start, packet
        except av.error.FFmpegError:
            return  # a truncated file: the sound ends where it ends

    def _write(self, packet: Any) -> None:
        shift = round((self.start + self.origin) / packet.time_base)
        if self.copied:
            # a first packet before 0 primes the decoder; MP4 remembers that it is not to be heard
            packet.pts -= shift
            packet.dts = packet.pts
            packet.stream = self.track
            self.out.mux(packet)
            return
        for frame in packet.decode():
            for piece in self.resampler.resample(frame):
                piece.pts = None
                self.out.mux(self.track.encode(piece))


def _video_stream(av: Any, container: OutputContainer, shape: tuple[int, ...], rate: float) -> Any:
    names = av.codec.codecs_available
    codec = "libx264" if "libx264" in names else "mpeg4"
    # two threads whatever the machine: the bytes depend on their number
    options = {"crf": QUALITY, "preset": "veryfast", "bf": "0"} if codec == "libx264" else {"qscale": "4"}
    stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001), options=options)
    stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
    stream.codec_context.time_base = CLOCK
    # said, because players guess by the size where nothing is; the transfer stays unsaid: the pictures are sRGB
    stream.codec_context.colorspace = usual_matrix(shape[1], shape[0])
    stream.codec_context.color_range = LIMITED_RANGE
    stream.codec_context.thread_count = 2
    # without B-frames packets come in the order they are shown in, which is all that NUT remembers of it
    stream.codec_context.max_b_frames = 0
    # parameter sets beside the packets, where MP4 wants them
    stream.codec_context.flags |= av.codec.context.Flags.global_header
    return stream


def _even(image: np.ndarray) -> np.ndarray:
    down, right = image.shape[0] % 2, image.shape[1] % 2
    if not down and not right:
        return np.ascontiguousarray(image)
    return cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)


def _refused(path: Path, error: Exception) -> VideoError:
    return VideoError(f"cannot write the video '{path}': {getattr(error, 'strerror', None) or error}")
