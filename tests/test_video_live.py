"""Live mode without a camera, the command line's refusals, rows that grow on disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import following_model, scene

from tokenface import cli
from tokenface.errors import VideoError
from tokenface.formats.growing_npz import GrowingNpz
from tokenface.video.live import Camera, live


class Scripted:
    """A camera that gives numbered frames when it is told to."""

    def __init__(self, count: int) -> None:
        self.count, self.given, self.released = count, 0, False
        self.go = threading.Semaphore(0)

    def read(self):
        self.go.acquire(timeout=20)
        if self.given == self.count:
            return False, None
        self.given += 1
        return True, scene((40 + self.given, 40, 24))[..., ::-1]

    def release(self) -> None:
        self.released = True


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_slow_eyes_see_the_newest_frame_and_count_the_others() -> None:
    capture = Scripted(6)
    camera = Camera(capture)
    frames = camera.frames()
    capture.go.release()
    first = next(frames)
    for _ in range(4):
        capture.go.release()
    wait_until(lambda: capture.given == 5 and camera.skipped == 3)
    second = next(frames)
    assert (camera.taken, camera.skipped) == (2, 3)
    assert (first.index, second.index) == (0, 1)
    assert first.image[50, 50].tolist() == [250, 20, 20]  # RGB again
    for _ in range(2):
        capture.go.release()
    assert len(list(frames)) <= 1
    assert capture.released


def test_live_faces_follow_the_camera() -> None:
    capture = Scripted(12)
    for _ in range(13):
        capture.go.release()
    camera = Camera(capture)
    model = following_model()
    frames = list(live(model, model.detector, camera))
    assert 1 <= len(frames) == camera.taken
    assert camera.taken + camera.skipped == 12
    assert all(frame.faces[0].person == 0 for frame in frames)


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(VideoError, match="no camera number 97"):
        Camera.open(97)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["track", "missing.mp4"], "no video at 'missing.mp4'"),
        (["track", "a.mp4", "--people", "some"], "--people is a number from 1 on, or all"),
        (["track", "a.mp4", "--temporal", "both"], "--temporal is one of auto, off, causal, centred"),
        (["track", "a.mp4", "--smooth", "hard"], "--smooth is one of none, one-euro"),
        (["transfer", "a.jpg", "b.jpg", "--pose", "mine"], "--pose is one of auto, source, target"),
        (["train-temporal", "nothing=1"], "unknown configuration key 'nothing'"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_rows_grow_on_disk_and_come_back_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [{"a": random.normal(size=(n, 3)).astype(np.float32), "t": random.normal(size=n)} for n in (4, 1, 7)]
    growing = GrowingNpz(tmp_path / "work")
    for part in parts:
        growing.append(part)
    growing.finish(tmp_path / "x.npz", {"names": np.array(["ü", "b"])})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["a"], np.concatenate([part["a"] for part in parts]))
        np.testing.assert_array_equal(file["t"], np.concatenate([part["t"] for part in parts]))
        assert file["names"].tolist() == ["ü", "b"]
    first = (tmp_path / "x.npz").read_bytes()
    growing.finish(tmp_path / "x.npz", {"names": np.array(["ü", "b"])})
    assert (tmp_path / "x.npz").read_bytes() == first
    with pytest.raises(ValueError, match="same names"):
        growing.append({"a": np.zeros((2, 3), np.float32)})
    assert GrowingNpz(tmp_path / "work").count == 0  # what a killed run left is gone
