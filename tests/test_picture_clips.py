"""Clips that are pictures: animations and numbered frames, read and tracked like any other clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import following_model, scene, write_clip

from tokenface.errors import VideoError
from tokenface.jobs.track import TrackOptions, TrackRun
from tokenface.retarget.performance import is_photo
from tokenface.video.clip import Clip
from tokenface.video.picture_clip import open_clip


def shades(count: int) -> list[np.ndarray]:
    return [np.full((40, 60, 3), 20 * number, np.uint8) for number in range(count)]


def animation(path: Path, durations: list[int]) -> Path:
    first, *others = (Image.fromarray(frame) for frame in shades(len(durations)))
    first.save(path, save_all=True, append_images=others, duration=durations, lossless=True, loop=0)
    return path


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_an_animation_keeps_its_own_times(tmp_path: Path, suffix: str) -> None:
    clip = open_clip(animation(tmp_path / f"a.{suffix}", [100, 40, 60, 200]))
    frames = list(clip.frames())
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.1, 0.14, 0.2], atol=1e-6)
    np.testing.assert_allclose([frame.image.mean() for frame in frames], [0, 20, 40, 60], atol=1)
    assert (clip.facts.width, clip.facts.height, clip.facts.duration) == (60, 40, pytest.approx(0.4))
    assert [frame.index for frame in clip.frames(skip=2)] == [2, 3]
    assert [frame.time for frame in open_clip(clip.path, start=0.12, end=0.2).frames()] == [pytest.approx(0.14)]


@pytest.mark.parametrize("given", ["", "frame_%04d.png", "frame_%d.png"])
def test_numbered_frames_come_in_the_order_of_their_numbers(tmp_path: Path, given: str) -> None:
    for number, frame in enumerate(shades(12)):
        Image.fromarray(frame).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("1")
    clip = open_clip(tmp_path / given if given else tmp_path, fps=24)
    frames = list(clip.frames())
    np.testing.assert_allclose([frame.image.mean() for frame in frames], 20 * np.arange(12), atol=1)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 24)
    assert (clip.rate, clip.expected_frames) == (24, 12)


def test_a_damaged_frame_is_grey_and_counted(tmp_path: Path) -> None:
    for number, frame in enumerate(shades(4)):
        Image.fromarray(frame).save(tmp_path / f"{number:03d}.png")
    (tmp_path / "002.png").write_bytes(b"no picture")
    clip = open_clip(tmp_path)
    assert [round(frame.image.mean()) for frame in clip.frames()] == [0, 20, 127, 60]
    assert clip.damaged_packets == 1


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ([], "", "has no numbered pictures"),
        (["a1.png"], "", "has 1 numbered picture;"),
        (["a1.png", "a2.png"], "b%d.png", "has no numbered pictures"),
        (["a1.png"], "a1.png", "is a single picture"),
    ],
)
def test_what_is_no_clip_says_so(tmp_path: Path, names: list[str], given: str, message: str) -> None:
    for name in names:
        Image.fromarray(shades(1)[0]).save(tmp_path / name)
    with pytest.raises(VideoError, match=message):
        open_clip(tmp_path / given)


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.new("RGB", (20 * number, 30)).save(tmp_path / f"{number}.png")
    with pytest.raises(VideoError, match="of one size"):
        list(open_clip(tmp_path).frames())


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", shades(3)).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(Clip("12:30.mp4").frames())) == 3


def test_numbered_frames_are_tracked_resumed_and_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(scene((60 + number, 40, 30))).save(folder / f"{number:04d}.png")
    options = TrackOptions(formats=("npz",), temporal="off")
    run = TrackRun(folder, tmp_path / "out", options, following_model())
    list(run)
    assert (run.frames, run.frames_with_face) == (6, 6)
    assert (tmp_path / "out" / "overlay.mp4").is_file()
    assert TrackRun(folder, tmp_path / "out", options, following_model()).finished_before
    Image.fromarray(scene((20, 40, 30))).save(folder / "0003.png")
    with pytest.raises(Exception, match="another clip"):
        TrackRun(folder, tmp_path / "out", options, following_model())


def test_a_moving_picture_is_a_source_of_movement_and_a_still_one_a_photo(tmp_path: Path) -> None:
    assert not is_photo(animation(tmp_path / "a.webp", [50, 50]))
    Image.fromarray(shades(1)[0]).save(tmp_path / "b.webp")
    assert is_photo(tmp_path / "b.webp")
