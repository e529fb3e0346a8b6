"""Clips that mean no good: playlists of other files, things that are no files, giant frames."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokenface.data.readers.video import read_clip
from tokenface.errors import DataError, VideoError
from tokenface.formats.mp4 import encode_piece, join_pieces
from tokenface.video.clip import Clip

pytest.importorskip("av", reason="clips need the extra video")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A clip that nobody is asked to read."""
    picture = np.full((64, 64, 3), 200, np.uint8)
    encode_piece(tmp_path / "p.nut", ((number / 10, picture) for number in range(8)), 10.0)
    return join_pieces(tmp_path / "secret.mp4", [tmp_path / "p.nut"], None, 0.0, None)


def outcome(path: Path) -> str:
    """Number of the frames, or why there are none."""
    try:
        return str(len(list(Clip(path).frames())))
    except VideoError as error:
        return str(error)


def playlists(secret: Path) -> dict[str, str]:
    listed = f"#EXTINF:1.0,\n{secret}\n"
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{secret}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    return {
        "list.m3u8": f"{head}{listed}#EXT-X-ENDLIST\n",
        "list.mp4": f"{head}{listed}#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{secret.name}'\n",
        "concat.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "unsafe.mkv": f"ffconcat version 1.0\nfile 'file:{secret}'\noption safe 0\n",
        "stream.mpd": mpd,
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("name", list(playlists(Path("x"))))
def test_no_second_file_is_ever_opened_for_a_clip(name: str, secret: Path) -> None:
    path = secret.with_name(name)
    path.write_text(playlists(secret)[name], encoding="utf-8")
    assert Clip(secret).facts.width == 64
    with pytest.raises(VideoError, match="is no video") as caught:
        Clip(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        read_clip(path)
    with pytest.raises(VideoError):
        join_pieces(secret.with_name("joined.mp4"), [secret.with_name("p.nut")], path)


def test_a_reference_to_another_file_inside_a_clip_is_not_followed(secret: Path, tmp_path: Path) -> None:
    """QuickTime's data references: the track's own file is said to be elsewhere."""
    data = secret.read_bytes()
    at = data.index(b"url \x00\x00\x00\x01")
    name = str(secret).encode()
    other = bytearray(data)
    other[at + 4 : at + 8] = b"\x00\x00\x00\x00"  # not in this file
    (tmp_path / "refers.mp4").write_bytes(bytes(other))
    (tmp_path / "named.mp4").write_bytes(bytes(other).replace(b"isom", name[:4]))
    for path in (tmp_path / "refers.mp4", tmp_path / "named.mp4"):
        assert "\n" not in outcome(path)


@pytest.mark.skipif(os.name == "nt", reason="devices and pipes are POSIX's")
def test_only_regular_files_are_clips(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.mp4", tmp_path / "zero.mp4"):
        with pytest.raises(VideoError, match="device, pipe or socket"):
            Clip(path)
        with pytest.raises(DataError, match="device, pipe or socket"):
            read_clip(path)
    with pytest.raises(VideoError, match="folder"):
        Clip(tmp_path)
    with (tmp_path / "sparse.nut").open("wb") as file:  # FFmpeg would look for a beginning to its end
        file.write(b"nut/multimedia container\0")
        file.truncate(200 * 10**9)
    with pytest.raises(VideoError, match="holes"):
        Clip(tmp_path / "sparse.nut")


def encoded(path: Path, codec: str, form: str, side: int, pixels: str, count: int = 1) -> Path:
    import av

    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = pixels
        for _ in range(count):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), "rgb24")))
        out.mux(stream.encode())
    return path


def test_frames_are_measured_before_they_are_decoded(tmp_path: Path) -> None:
    """A clip of a few hundred kB whose frame unpacks to 243 MB."""
    pytest.importorskip("resource")
    path = encoded(tmp_path / "bomb.mov", "png", "mov", 9000, "rgb24")
    assert path.stat().st_size < 2_000_000
    script = (
        "import resource, sys; from tokenface.video.clip import Clip; from tokenface.errors import VideoError;"
        "import av, cv2; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak()\n"
        "try: Clip(sys.argv[1], max_pixels=10**6)\n"
        "except VideoError as error: print(peak() - before, error)"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    kilobytes, text = answer.stdout.split(" ", 1)
    assert "9000 × 9000 pixels" in text
    assert int(kilobytes) < 100_000


def test_frames_that_grow_are_refused(tmp_path: Path) -> None:
    """A stream may change its size; the limit holds for every frame."""
    small = encoded(tmp_path / "small.h264", "libx264", "h264", 64, "yuv420p", 4)
    large = encoded(tmp_path / "large.h264", "libx264", "h264", 128, "yuv420p", 4)
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    clip = Clip(both, max_pixels=10_000)
    with pytest.raises(VideoError, match="128 × 128 pixels"):
        list(clip.frames())


def test_lengths_that_lie_end_in_one_line(secret: Path, tmp_path: Path) -> None:
    data = secret.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 40)):
        damaged = data[:at] + struct.pack(">I", 0xFFFFFFFF) + data[at + 4 :]
        (tmp_path / "damaged.mp4").write_bytes(damaged)
        assert "\n" not in outcome(tmp_path / "damaged.mp4")
