"""Safe opening of video files: one regular file, demuxers that open no second one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import cv2

from tokenface.core.files import check_regular, reason
from tokenface.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer

DEMUXERS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "m4v"),
    *("flv", "asf", "ogg", "gif", "apng", "webp", "webp_pipe", "nut", "h264", "hevc", "av1", "obu", "ivf", "mjpeg"),
    *("yuv4mpegpipe", "mxf", "dv", "rm", "wtv"),
)
"""FFmpeg's readers of clips. Playlists (hls, concat, dash, sdp, image2 …) are none: they open what they name."""
MAX_BYTES = 1 << 44
"""Of a clip's file, which is read a little at a time: only what no disk holds is refused."""
BT709, UNSPECIFIED, BT601 = 1, 2, 5
"""Numbers of the YCbCr matrices of high and of standard definition (ITU-T H.273; 6 is the same as 5), and of none."""
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_environment = threading.Lock()


@contextmanager
def open_clip(path: str | Path, max_pixels: int | None = None) -> Iterator[InputContainer]:
    """PyAV's container of a clip.

    Args:
        max_pixels: width × height of frames that decoders still make room for.
    Raises:
        VideoError: PyAV is missing, no such file, no regular file, or none that FFmpeg knows.
    """
    av: Any = import_av()
    path = Path(path)
    options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": ""}
    if max_pixels is not None:  # coded frames are padded
        options["max_pixels"] = str(max_pixels + max_pixels // 8 + (1 << 16))
    with ExitStack() as opened:  # what happens inside the block is the block's own business
        try:
            check_regular(path, MAX_BYTES)
            file = opened.enter_context(path.open("rb"))
            container = opened.enter_context(av.open(file, metadata_errors="replace", options=options, io_open=_never))
        except FileNotFoundError as error:
            raise VideoError(f"no video at '{path}'") from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            text = f"'{path}' is no video, or is cut off ({reason(error)}); expected mp4, mov, mkv, …"
            raise VideoError(text) from error
        yield container


def usual_matrix(width: int, height: int, codec: str = "") -> int:
    """Number of the YCbCr matrix of a clip that names none: BT.709 from 720 lines or 1280 columns on, as in players.

    Args:
        width, height: as they are stored, in pixels.
        codec: FFmpeg's name; Motion JPEG is BT.601 at every size (JFIF).
    """
    return BT709 if codec != "mjpeg" and (height >= 720 or width >= 1280) else BT601


@contextmanager
def open_capture(path: str | Path) -> Iterator[cv2.VideoCapture]:
    """OpenCV's reader of a clip, with the same limits; it may turn out not to be opened.

    Raises:
        OSError: no such file, or no regular file.
    """
    check_regular(path, MAX_BYTES)
    with _environment:  # the only way to tell OpenCV
        before = os.environ.get(_OPTIONS)
        os.environ[_OPTIONS] = f"format_whitelist;{','.join(DEMUXERS)}|protocol_whitelist;file"
        try:
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        finally:
            if before is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = before
    try:
        yield capture
    finally:
        capture.release()


def import_av() -> Any:
    """PyAV, FFmpeg's libraries.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError("video needs the package av (FFmpeg's libraries): pip install 'tokenface[video]'") from error
    return av


def _never(*_: Any) -> NoReturn:
    raise PermissionError("a clip names another file, which is not opened")
