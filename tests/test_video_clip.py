"""Decoding: times, rotation, odd shapes of files, and files that are broken."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import scene, set_display_matrix, set_display_rotation, write_clip  # noqa: E402

from tokenface.core.prefetch import ahead  # noqa: E402
from tokenface.errors import VideoError  # noqa: E402
from tokenface.video.clip import Clip  # noqa: E402


def numbered(count: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Frames whose brightness is their number."""
    return [np.full((*size, 3), 3 * i % 250, np.uint8) for i in range(count)]


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "a.mp4", numbered(20), rate=25))
    frames = list(clip.frames())
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(20) / 25, atol=1e-3)
    np.testing.assert_allclose([frame.image.mean() for frame in frames], 3 * np.arange(20), atol=2)
    assert (clip.facts.width, clip.facts.height, round(clip.facts.rate)) == (96, 64, 25)
    assert clip.expected_frames == 20


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.30, 0.34, 1.00]
    frames = list(Clip(write_clip(tmp_path / "a.mp4", numbered(6), times=times)).frames())
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=1e-3)


@pytest.mark.parametrize("rate", [1, 120])
def test_slow_and_fast_clips_are_read_whole(tmp_path: Path, rate: int) -> None:
    clip = Clip(write_clip(tmp_path / "a.mp4", numbered(12), rate=rate))
    assert [round(frame.time * rate) for frame in clip.frames()] == list(range(12))


def test_a_part_at_fewer_frames_per_second(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(60), rate=30)
    frames = list(Clip(path, start=0.5, end=1.5, fps=10).frames())
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(0.5, 1.5, 0.1), atol=2e-2)
    assert [frame.index for frame in frames] == list(range(10))


def test_skipped_frames_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "a.mp4", numbered(30)))
    everything = list(clip.frames())
    for whole, late in zip(everything[17:], clip.frames(skip=17), strict=True):
        assert (whole.index, whole.time) == (late.index, late.time)
        np.testing.assert_array_equal(whole.image, late.image)


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_phones_say_how_the_picture_is_turned(tmp_path: Path, degrees: int, turns: int) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:20, :30] = 255  # a corner tells all turns apart
    path = write_clip(tmp_path / "a.mp4", [image] * 3)
    set_display_rotation(path, degrees)
    clip = Clip(path)
    frame = next(clip.frames())
    expected = np.rot90(image, turns)  # the tag turns clockwise, NumPy anticlockwise
    assert frame.image.shape == expected.shape == (clip.facts.height, clip.facts.width, 3)
    np.testing.assert_allclose(frame.image.astype(int), expected, atol=40)
    assert np.abs(frame.image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_are_shown_as_the_whole_display_matrix_says(tmp_path: Path, signs, turned) -> None:
    """Selfie applications and editors flip. The reference moves every pixel by the definition of the matrix."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:20, :30], image[:20, 60:] = (255, 255, 255), (200, 30, 30)
    path = write_clip(tmp_path / "a.mp4", [image] * 3)
    a, b, c, d = (0, signs[0], signs[1], 0) if turned else (signs[0], 0, 0, signs[1])
    set_display_matrix(path, a, b, c, d)
    y, x = np.mgrid[:64, :96]
    p, q = a * x + c * y, b * x + d * y
    p, q = p - p.min(), q - q.min()
    expected = np.zeros((q.max() + 1, p.max() + 1, 3), np.uint8)
    expected[q, p] = image
    clip = Clip(path)
    frame = next(clip.frames())
    assert frame.image.shape == expected.shape == (clip.facts.height, clip.facts.width, 3)
    assert np.abs(frame.image.astype(int) - expected).mean() < 4
    assert clip.facts.mirrored == (a * d - b * c < 0)


def test_a_matrix_that_says_nothing_changes_nothing(tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:20, :30] = 255
    path = write_clip(tmp_path / "a.mp4", [image] * 3)
    set_display_matrix(path, 0, 0, 0, 0)
    assert np.abs(next(Clip(path).frames()).image.astype(int) - image).mean() < 3


def test_odd_sizes_and_4k(tmp_path: Path) -> None:
    odd = next(Clip(write_clip(tmp_path / "odd.mkv", numbered(2, (51, 77)), codec="ffv1")).frames())
    assert odd.image.shape == (51, 77, 3)
    large = Clip(write_clip(tmp_path / "large.mp4", numbered(2, (2160, 3840))))
    assert [frame.image.shape for frame in large.frames()] == [(2160, 3840, 3)] * 2


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for image in numbered(3, (64, 72)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    assert next(Clip(path).frames()).image.shape == (64, 96, 3)


def test_files_that_cannot_be_tracked_say_why(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no video at"):
        Clip(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("this is no video" * 50)
    with pytest.raises(VideoError, match="no video, or is cut off"):
        Clip(tmp_path / "text.mp4")
    sound = write_clip(tmp_path / "both.mp4", numbered(30), sound=True)
    with av.open(str(sound)) as source, av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as out:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    with pytest.raises(VideoError, match="has no video stream"):
        Clip(tmp_path / "sound.m4a")
    whole = write_clip(tmp_path / "whole.mp4", numbered(40)).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])  # an MP4's index stands at its end
    with pytest.raises(VideoError):
        Clip(tmp_path / "half.mp4")
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        list(Clip(tmp_path / "whole.mp4", start=50).frames())
    write_clip(tmp_path / "none.mkv", numbered(1), codec="ffv1", frames_kept=0)
    with pytest.raises(VideoError, match="no video, or is cut off"):
        Clip(tmp_path / "none.mkv")
    with pytest.raises(VideoError, match=r"ends .* before it starts"):
        Clip(tmp_path / "whole.mp4", start=2, end=1)
    with pytest.raises(VideoError, match="more than 100"):
        Clip(tmp_path / "whole.mp4", max_pixels=100)


def test_a_truncated_stream_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)]
    whole = write_clip(tmp_path / "whole.mkv", frames).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    clip = Clip(tmp_path / "half.mkv")
    count = len(list(clip.frames()))
    assert 10 < count < 30


def test_working_ahead_keeps_order_errors_and_bounds() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i
        raise VideoError("the end")

    iterator = ahead(items(), count=3)
    assert [next(iterator) for _ in range(10)] == list(range(10))
    assert len(made) <= 10 + 3 + 2
    with pytest.raises(VideoError, match="the end"):
        list(iterator)


def test_closing_stops_the_thread() -> None:
    before = threading.enumerate()
    iterator = ahead(iter(scene() for _ in range(10**9)), count=2)
    next(iterator)
    assert any(thread.name == "tokenface-frames" and thread not in before for thread in threading.enumerate())
    iterator.close()  # would hang if the thread went on
    assert not [thread for thread in threading.enumerate() if thread not in before]
