"""`tokenface track` end to end with stand-ins: files, sound, what survives a kill, what is refused."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from copied_processes import Copies, copies
from test_formats import khronos_issues, read_accessor

av = pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import CHUNK, following_model, lossless, scene, set_display_rotation, write_clip  # noqa: E402

from tokenface.errors import OutputError  # noqa: E402
from tokenface.formats import mp4  # noqa: E402
from tokenface.formats.live_link import COLUMNS, timecode  # noqa: E402
from tokenface.jobs.track import TrackOptions, TrackRun  # noqa: E402
from tokenface.video.store import CHUNK_FRAMES, Store  # noqa: E402

HEADER = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,"
    "MouthStretchLeft,MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,"
    "MouthPressLeft,MouthPressRight,MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,"
    "BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,"
    "CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,"
    "LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def moving(count: int, size: tuple[int, int] = (90, 120)) -> list[np.ndarray]:
    """Frames on which a mark wanders, and the light changes a little, so that every prediction is another one."""
    return [
        scene((30 + 15 * np.sin(i / 9), 20 + 8 * np.cos(i / 7), 20), size=size, ground=(100 + i % 50,) * 3)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def model():
    return following_model()


@pytest.fixture(scope="module")
def tracked(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    clip = write_clip(folder / "clip.mp4", moving(40), sound=True)
    list(TrackRun(clip, folder / "out", TrackOptions(), model))
    return folder


def test_the_files_of_a_clip(tracked: Path) -> None:
    names = sorted(str(path.relative_to(tracked / "out")) for path in (tracked / "out").rglob("*") if path.is_file())
    assert names == [
        ".tokenface-track.json",
        "overlay.mp4",
        "person_00/animation.glb",
        "person_00/parameters.csv",
        "person_00/parameters.npz",
        "track.json",
    ]
    facts = json.loads((tracked / "out" / "track.json").read_text())
    assert (facts["frames"], facts["frames_with_face"], facts["cuts"], facts["warnings"]) == (40, 40, [], [])
    assert facts["people"] == [{"person": 0, "first": 0, "last": 39, "frames": 40}]


def test_the_npz_agrees_with_the_tracker(tracked: Path, model) -> None:
    faces = [frame.faces[0] for frame in model.track(tracked / "clip.mp4")]
    with np.load(tracked / "out/person_00/parameters.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    np.testing.assert_array_equal(arrays["frame"], np.arange(40))
    np.testing.assert_allclose(arrays["time"], np.arange(40) / 30, atol=1e-3)
    for name in ("shape", "expression", "jaw", "camera", "texture", "light"):
        np.testing.assert_array_equal(arrays[name], np.stack([getattr(face.parameters, name) for face in faces]))
    np.testing.assert_allclose(arrays["landmarks68"], np.stack([face.landmarks for face in faces]), atol=1e-2)
    np.testing.assert_allclose(arrays["head_pose_degrees"], np.stack([face.head_pose for face in faces]), atol=1e-4)
    np.testing.assert_allclose(arrays["gaze_degrees"], np.stack([f.gaze.in_picture for f in faces]), atol=1e-3)
    np.testing.assert_allclose(arrays["confidence"], [face.confidence for face in faces], rtol=1e-5)
    homogeneous = np.append(faces[7].landmarks3d[30], 1)
    np.testing.assert_allclose(arrays["orthographic"][7] @ homogeneous, [*faces[7].landmarks[30], 1], atol=1e-2)
    weights = arrays["confidence"].astype(np.float64)
    np.testing.assert_allclose(arrays["identity"], np.average(arrays["shape"], axis=0, weights=weights), atol=1e-6)


def test_the_csv_is_live_links(tracked: Path) -> None:
    rows = list(csv.reader((tracked / "out/person_00/parameters.csv").open()))
    assert ",".join(rows[0]) == HEADER == ",".join(COLUMNS)
    assert len(rows) == 41
    assert rows[1][:2] == ["00:00:00:00.000", "61"]
    assert all(len(row) == 63 for row in rows)
    with np.load(tracked / "out/person_00/parameters.npz", allow_pickle=False) as file:
        names, weights = list(file["arkit_names"]), file["arkit"]
    column = rows[0].index("MouthSmileLeft")
    np.testing.assert_allclose(
        [float(row[column]) for row in rows[1:]], weights[:, names.index("mouthSmileLeft")], atol=1e-6
    )


def test_timecodes_count_frames() -> None:
    assert timecode(3725.5, 30) == "01:02:05:15.000"
    assert timecode(1 / 30 * 31, 30) == "00:00:01:01.000"
    assert timecode(0.05, 25) == "00:00:00:01.250"


def test_the_animation_shows_every_frame_of_the_tracked_head(tracked: Path, model) -> None:
    """Keyframes read by a reader of our own, against the rig posed by hand."""
    from scipy.spatial.transform import Rotation

    document = pygltflib.GLTF2().load(str(tracked / "out/person_00/animation.glb"))
    with np.load(tracked / "out/person_00/parameters.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    animation = document.animations[0]
    found = {}
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        times = read_accessor(document, sampler.input)[:, 0]
        np.testing.assert_allclose(times, arrays["time"], atol=1e-3)
        found[document.nodes[channel.target.node].name, channel.target.path] = read_accessor(document, sampler.output)
    names = document.meshes[0].extras["targetNames"]
    weights = next(value for (_, path), value in found.items() if path == "weights").reshape(40, len(names))
    for i, name in enumerate(model.head.expression_names):
        np.testing.assert_allclose(weights[:, names.index(name)], arrays["expression"][:, i], atol=1e-6)
    neck = Rotation.from_quat(found["neck", "rotation"]).as_matrix()
    np.testing.assert_allclose(neck, arrays["rotation"], atol=1e-5)
    jaw = Rotation.from_quat(found["jaw", "rotation"]).as_rotvec()
    np.testing.assert_allclose(jaw, arrays["jaw"], atol=1e-5)
    assert {joint for joint, path in found if path == "rotation"} == {"neck", "jaw", "left_eye", "right_eye"}


def test_the_animation_passes_the_khronos_validator(tracked: Path) -> None:
    issues = khronos_issues(tracked / "out/person_00/animation.glb")
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_the_overlay_has_all_frames_and_the_sound(tracked: Path) -> None:
    with av.open(str(tracked / "clip.mp4")) as source, av.open(str(tracked / "out/overlay.mp4")) as overlay:
        wave = [np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], axis=1) for c in (source, overlay)]
        np.testing.assert_array_equal(wave[0], wave[1])  # copied, not encoded again
        overlay.seek(0)
        times = [float(frame.pts * frame.time_base) for frame in overlay.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(40) / 30, atol=1e-3)


def test_a_second_run_has_nothing_to_do(tracked: Path, model) -> None:
    before = _hashes(tracked / "out")
    run = TrackRun(tracked / "clip.mp4", tracked / "out", TrackOptions(), model)
    assert list(run) == []
    assert run.finished_before
    assert run.frames_with_face == 40
    assert _hashes(tracked / "out") == before


def test_other_settings_do_it_again_and_other_clips_are_refused(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving(6))
    list(TrackRun(clip, tmp_path / "out", TrackOptions(formats=("npz", "obj"), overlay=False), model))
    assert len(list((tmp_path / "out/person_00/obj").glob("*.obj"))) == 6
    again = TrackRun(clip, tmp_path / "out", TrackOptions(formats=("csv",), overlay=False), model)
    assert not again.finished_before
    list(again)
    assert sorted(path.name for path in (tmp_path / "out/person_00").iterdir() if path.is_file()) == ["parameters.csv"]
    with pytest.raises(OutputError, match="another clip"):
        TrackRun(write_clip(tmp_path / "other.mp4", moving(5)), tmp_path / "out", TrackOptions(), model)
    with pytest.raises(OutputError, match="unknown format 'fbx'"):
        TrackRun(clip, tmp_path / "out2", TrackOptions(formats=("fbx",)), model)


def test_what_others_put_into_the_folder_stays(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving(6))
    (tmp_path / "notes.txt").write_text("mine")
    scene_file = tmp_path / "person_00" / "scene.blend"
    scene_file.parent.mkdir()
    scene_file.write_text("mine")
    for formats in (("npz",), ("csv",)):  # the second clears what the first wrote
        list(TrackRun(clip, tmp_path, TrackOptions(formats=formats, overlay=False), model))
    assert not (tmp_path / "person_00" / "parameters.npz").exists()
    assert clip.is_file()
    assert (tmp_path / "notes.txt").read_text() == scene_file.read_text() == "mine"
    old = {**json.loads((tmp_path / ".tokenface-track.json").read_text()), "files": ["notes.txt", "clip.mp4"]}
    (tmp_path / ".tokenface-track.json").write_text(json.dumps(old))  # as earlier versions wrote it
    list(TrackRun(clip, tmp_path, TrackOptions(formats=("npz",), overlay=False), model))
    assert clip.is_file()
    assert (tmp_path / "notes.txt").is_file()


def test_files_of_a_run_that_was_killed_go_with_other_settings(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving(6))
    run = TrackRun(clip, tmp_path / "out", TrackOptions(formats=("npz", "obj"), overlay=False), model)
    for step in run:
        if step.stage == "files" and step.done:
            break  # nothing says that it was done
    assert list((tmp_path / "out").rglob("*.obj"))
    list(TrackRun(clip, tmp_path / "out", TrackOptions(formats=("csv",), overlay=False), model))
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {".tokenface-track.json", "track.json", "parameters.csv"}


def test_a_clip_of_whole_chunks_is_complete(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving(CHUNK_FRAMES))
    run = TrackRun(clip, tmp_path / "out", TrackOptions(formats=("npz",), overlay=False), model)
    list(run)
    assert (run.frames, run.warnings) == (CHUNK_FRAMES, [])


def test_frames_far_apart_are_no_truncated_clip(model, tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "clip.mp4", moving(60), times=[*(i / 30 for i in range(30)), *(1 + i / 10 for i in range(30))]
    )
    run = TrackRun(clip, tmp_path / "out", TrackOptions(formats=("npz",), overlay=False, fps=20), model)
    list(run)
    assert run.warnings == []


def test_a_clip_is_not_overwritten_by_its_overlay(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "overlay.mp4", moving(6))
    with pytest.raises(OutputError, match="would be overwritten"):
        TrackRun(clip, tmp_path, TrackOptions(), model)
    assert list(TrackRun(clip, tmp_path, TrackOptions(formats=("npz",), overlay=False), model))


def test_a_clip_without_people(model, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "empty.mp4", [scene(size=(90, 120))] * 100)
    run = TrackRun(clip, tmp_path / "out", TrackOptions(), model)
    list(run)
    assert (run.frames, run.frames_with_face, run.people) == (100, 0, {})
    with av.open(str(tmp_path / "out/overlay.mp4")) as overlay:
        assert len(list(overlay.decode(video=0))) == 100


@pytest.mark.parametrize(
    ("size", "rate", "turned", "shown"),
    [
        ((51, 77), 30, 0, (52, 78)),  # an odd last row or column is repeated
        ((64, 96), 30, 90, (96, 64)),  # a phone held upright
        ((64, 96), 1, 0, (64, 96)),
        ((64, 96), 120, 0, (64, 96)),
        ((2160, 3840), 30, 0, (2160, 3840)),
    ],
    ids=["odd", "portrait", "1 fps", "120 fps", "4K"],
)
def test_unusual_clips_are_followed_and_drawn(
    model, tmp_path: Path, size: tuple[int, int], rate: int, turned: int, shown: tuple[int, int]
) -> None:
    side = size[0] // 3
    odd = bool(size[0] % 2)
    frames = [scene((size[1] * 0.4 + i, size[0] * 0.3, side), size=size) for i in range(3)]
    clip = tmp_path / ("clip.mkv" if odd else "clip.mp4")
    write_clip(clip, frames, rate, codec="ffv1" if odd else "libx264")
    if turned:
        set_display_rotation(clip, turned)
    run = TrackRun(clip, tmp_path / "out", TrackOptions(formats=("npz",)), model)
    list(run)
    assert (run.frames, run.frames_with_face) == (3, 3)
    with np.load(tmp_path / "out/person_00/parameters.npz", allow_pickle=False) as file:
        points, times = file["landmarks68"], file["time"]
    np.testing.assert_allclose(times, np.arange(3) / rate, atol=1e-3)
    middle = np.array([size[1] * 0.4 + 1 + side / 2, size[0] * 0.3 + side / 2])
    if turned:
        middle = np.array([size[0] - middle[1], middle[0]])
    found = (points[1].min(axis=0) + points[1].max(axis=0)) / 2
    assert np.abs(found - middle).max() < 0.25 * side
    with av.open(str(tmp_path / "out/overlay.mp4")) as film:
        drawn = list(film.decode(video=0))
    assert [(frame.height, frame.width) for frame in drawn] == [shown] * 3
    np.testing.assert_allclose(np.diff([float(f.pts * f.time_base) for f in drawn]), 1 / rate, atol=2e-3)


def test_a_truncated_clip_is_done_as_far_as_it_goes_and_says_so(model, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = [
        np.where(image == 128, random.integers(0, 90, image.shape, dtype=np.uint8), image)
        for image in [scene((40, 30, 30), size=(90, 120))] * 40
    ]
    whole = write_clip(tmp_path / "whole.mkv", frames).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    run = TrackRun(tmp_path / "half.mkv", tmp_path / "out", TrackOptions(overlay=False), model)
    list(run)
    assert 10 < run.frames < 30
    assert run.frames_with_face == run.frames
    assert any("truncated" in warning or "damaged" in warning for warning in run.warnings)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    clip = write_clip(folder / "clip.mp4", moving(CHUNK * 2 + 9, (60, 80)), sound=True)
    lossless(clip, folder / "out")
    return folder


@pytest.fixture(scope="module")
def processes() -> Iterator[Copies]:
    with copies("torch, video_stand_ins") as made:
        yield made


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize(
    ("owner", "method", "first"),
    [("Pipeline", "push", "state.npz"), ("HeadPainter", "paint", "overlay_000000.nut")],
    ids=["track", "overlay"],
)
def test_a_killed_run_goes_on_and_ends_the_same(
    uninterrupted: Path, tmp_path: Path, processes: Copies, owner: str, method: str, first: str
) -> None:
    clip, reference = uninterrupted / "clip.mp4", uninterrupted / "out"
    out = tmp_path / "killed"
    processes.start(
        _KILLED.format(owner=owner, method=method, call=CHUNK + 13, clip=str(clip), out=str(out)), tmp_path / "errors"
    )
    assert processes.ended() == -signal.SIGKILL, (tmp_path / "errors").read_text()[-2000:]
    assert (out / ".track" / first).exists()
    assert not (out / "track.json").exists()
    stored = Store(out / ".track").state()
    assert stored is not None
    assert stored[0] >= 1  # something to go on from
    lossless(clip, out)
    ours, theirs = _hashes(out), _hashes(reference)
    same_film = ours.pop("overlay.mp4") == theirs.pop("overlay.mp4")
    assert ours == theirs
    if not same_film:  # a rounding in the drawing is allowed, no more
        _assert_same_film(out / "overlay.mp4", reference / "overlay.mp4")
    assert not (out / ".track").exists()


_KILLED = """
from pathlib import Path
from tokenface.video.painter import HeadPainter
from tokenface.video.pipeline import Pipeline
torch.set_num_threads(1)
video_stand_ins.kill_at({owner}, {method!r}, {call})
video_stand_ins.lossless(Path({clip!r}), Path({out!r}))
"""
"""Dies in the middle of the second chunk."""


def _assert_same_film(one: Path, other: Path) -> None:
    """Pictures as they were drawn, to a rounding. At the usual quality the encoder makes 1.6 grey levels over a whole
    frame of one pixel that is one level off (it chooses other blocks), so the films are encoded without loss."""
    import av

    films = []
    for path in (one, other):
        with av.open(str(path)) as film:
            pictures = [(f.pts, f.to_ndarray(format="rgb24").astype(int)) for f in film.decode(video=0)]
        with av.open(str(path)) as film:
            sound = [(p.pts, bytes(p)) for p in film.demux(film.streams.audio[0])]
        films.append((pictures, sound))
    (ours, our_sound), (theirs, their_sound) = films
    assert our_sound == their_sound
    assert [pts for pts, _ in ours] == [pts for pts, _ in theirs]
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        difference = np.abs(a - b)
        assert difference.mean() < 0.05, f"{(difference.max(-1) > 0).sum()} pixels by up to {difference.max()}"


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_rounding_of_one_pixel_stays_one_in_films_without_loss(tmp_path: Path, monkeypatch) -> None:
    """What the comparison of killed runs rests on; at the usual quality it may change a whole frame."""
    monkeypatch.setattr(mp4, "QUALITY", "0")
    pictures = moving(12, (60, 80))
    rounded = [picture.copy() for picture in pictures]
    rounded[4][25, 40] += 1
    films = []
    for name, frames in (("one", pictures), ("other", rounded)):
        path = mp4.encode_piece(tmp_path / f"{name}.nut", ((i / 30, frame) for i, frame in enumerate(frames)), 30.0)
        with av.open(str(path)) as film:
            films.append([frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)])
    differences = [np.abs(a - b) for a, b in zip(*films, strict=True)]
    assert [i for i, difference in enumerate(differences) if difference.any()] == [4]
    assert differences[4].max() <= 2
    assert differences[4].mean() < 0.001
