"""`tokenface track --refine` with stand-ins: frames that are chosen, identity in the files, runs that were stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from test_formats import read_accessor
from test_video_run import moving
from typer.testing import CliRunner

av = pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import following_model, write_clip  # noqa: E402

from tokenface.cli.app import app  # noqa: E402
from tokenface.errors import ConfigError  # noqa: E402
from tokenface.inference.confidence import CONFIDENCE_FIELDS  # noqa: E402
from tokenface.jobs.track import TrackOptions, TrackRun  # noqa: E402
from tokenface.refinement import clip as refined_module  # noqa: E402
from tokenface.refinement.clip import chosen_frames  # noqa: E402
from tokenface.refinement.refine import Refiner  # noqa: E402

OPTIONS = TrackOptions(refine=True, refine_frames=3, formats=("npz", "glb"), overlay=False)


@pytest.fixture(scope="module")
def model():
    return following_model()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(12))


@pytest.fixture(scope="module")
def done(model, clip, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    list(TrackRun(clip, folder, replace(OPTIONS, overlay=True), model))
    return folder


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "person_00/parameters.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "track.json").read_text())["people"][0]["refined"]


def test_the_identity_is_the_joint_refinement_of_the_chosen_frames(model, clip, done):
    frames = record_of(done)["frames"]
    assert len(frames) == 3
    seen = [frame for frame in model.track(clip) if frame.index in frames]
    faces, photos = [frame.faces[0] for frame in seen], [frame.image for frame in seen]
    arrays = arrays_of(done)
    shape = torch.from_numpy(arrays["identity"])  # that of the tracker's pool
    everywhere = np.stack([frame.faces[0].parameters.shape.numpy() for frame in model.track(clip)])
    assert (everywhere.min(0) - 1e-5 <= arrays["identity"]).all()
    assert (arrays["identity"] <= everywhere.max(0) + 1e-5).all()
    bare = [replace(face, parameters=face.parameters.replace(shape=shape)) for face in faces]
    together = model.refine(bare, refined_module.OPTIONS, photos=photos, same_person=True)[0].parameters
    np.testing.assert_allclose(arrays["identity"], together.shape, atol=1e-5)
    np.testing.assert_allclose(arrays["identity_texture"], together.texture, atol=1e-5)
    pooled = np.mean([face.parameters.texture.numpy() for face in faces], axis=0)
    assert np.abs(arrays["identity_texture"] - pooled).max() > 1e-3  # it is not what the tracker says


def test_every_output_carries_the_identity_and_no_face_leaves_its_place(model, clip, done):
    arrays, (plain,) = arrays_of(done), [[frame.faces[0] for frame in model.track(clip)]]
    for name, every in (("identity", "shape"), ("identity_texture", "texture")):
        np.testing.assert_array_equal(arrays[every], np.repeat(arrays[name][None], 12, axis=0))
    document = pygltflib.GLTF2().load(str(done / "person_00/animation.glb"))
    places = read_accessor(document, document.meshes[0].primitives[0].attributes.POSITION)
    head = model.head(torch.from_numpy(arrays["identity"])[None]).vertices[0].detach().numpy()
    # split at the texture's seams, the vertices are others in number, but not in extent
    np.testing.assert_allclose([places.min(0), places.max(0)], [head.min(0), head.max(0)], atol=1e-5)
    box = np.ptp(plain[0].landmarks, axis=0).max()
    away = np.linalg.norm(arrays["landmarks68"] - np.stack([face.landmarks for face in plain]), axis=2)
    assert away[:, 17:].mean() < 0.02 * box  # the contour is another place of the head when its turn changes sign
    assert (done / "overlay.mp4").is_file()


def test_fitting_every_frame_brings_its_points_back(done):
    record = record_of(done)
    assert record["every_frame"]["after"] < 0.6 * record["every_frame"]["before"]
    assert record["photometric"]["after"] < record["photometric"]["before"]
    assert record["seconds"] > 0


class Chunks:
    """A store of one person, as `chosen_frames` reads it."""

    def __init__(self, yaw: np.ndarray, confidence: np.ndarray) -> None:
        self.yaw, self.confidence = yaw, confidence

    def chunks(self) -> Iterator[dict[str, np.ndarray]]:
        for part in np.array_split(np.arange(len(self.yaw)), 3):
            confidence_features = np.ones((len(part), len(CONFIDENCE_FIELDS)))
            confidence_features[:, CONFIDENCE_FIELDS.index("probability")] = self.confidence[part]
            camera = np.zeros((len(part), 7), np.float32)
            camera[:, 0], camera[:, 2] = 5, np.radians(self.yaw[part])
            rows = np.arange(len(part))
            yield {
                "person": rows * 0, "row": rows, "frame_index": part, "evidence": confidence_features, "camera": camera
            }  # fmt: skip


def test_chosen_frames_are_spread_over_yaw_and_time_and_none_is_doubtful():
    yaw = np.zeros(300)
    yaw[40:45], yaw[200:203] = 45, -40  # two short looks to the side
    confidence = np.full(300, 0.9)
    confidence[100:150], yaw[100:150] = 0.3, 80  # a wrong face, and far away in yaw
    chosen = chosen_frames(Chunks(yaw, confidence), 0, 6)  # type: ignore[arg-type]
    assert len(set(chosen)) == 6
    assert chosen == sorted(chosen)
    assert not set(chosen) & set(range(100, 150))
    assert set(chosen) & set(range(40, 45))
    assert set(chosen) & set(range(200, 203))
    assert max(chosen) - min(chosen) > 200
    assert chosen_frames(Chunks(yaw[:2], confidence[:2]), 0, 6) == [0, 1]  # type: ignore[arg-type]
    assert chosen_frames(Chunks(yaw, confidence * 0.1), 0, 6) == []  # type: ignore[arg-type]


def test_a_stopped_run_goes_on_without_refining_again(model, clip, done, tmp_path, monkeypatch):
    monkeypatch.setattr("tokenface.jobs.track.CHUNK_FRAMES", 5)
    list(TrackRun(clip, tmp_path / "whole", OPTIONS, model))
    for step in TrackRun(clip, tmp_path / "stopped", OPTIONS, model):
        if step.stage == "refine" and step.done == 5:
            break
    assert not (tmp_path / "stopped/track.json").exists()

    def refuse(*_: object) -> None:
        raise AssertionError("the person was refined before")

    monkeypatch.setattr(Refiner, "__call__", refuse)
    list(TrackRun(clip, tmp_path / "stopped", OPTIONS, model))
    for name in ("parameters.npz", "animation.glb"):
        ours, theirs = (tmp_path / folder / "person_00" / name for folder in ("stopped", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()
    first, again = record_of(tmp_path / "whole"), record_of(tmp_path / "stopped")
    assert first["every_frame"]["after"] == again["every_frame"]["after"]
    assert not (tmp_path / "stopped/.track").exists()


def test_other_settings_do_it_again(model, clip, done):
    same = replace(OPTIONS, overlay=True)
    assert TrackRun(clip, done, same, model).finished_before
    folder = done.parent / "again"
    list(TrackRun(clip, folder, replace(OPTIONS, refine=False), model))
    assert "refined" not in json.loads((folder / "track.json").read_text())["people"][0]
    assert not TrackRun(clip, folder, OPTIONS, model).finished_before


def test_a_doubtful_person_keeps_the_trackers_identity(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(refined_module, "DOUBTFUL", 1.1)
    run = TrackRun(clip, tmp_path, OPTIONS, model)
    list(run)
    assert any("person 0 was not refined" in warning for warning in run.warnings)
    faces = [frame.faces[0].parameters.shape.numpy() for frame in model.track(clip)]
    np.testing.assert_array_equal(arrays_of(tmp_path)["shape"], np.stack(faces))


def test_impossible_refinements_are_refused_in_one_line(model, clip, tmp_path):
    with pytest.raises(ConfigError, match="--no-pool"):
        TrackRun(clip, tmp_path, replace(OPTIONS, pool=False), model)
    with pytest.raises(ConfigError, match="at least one frame"):
        TrackRun(clip, tmp_path, replace(OPTIONS, refine_frames=0), model)
    result = CliRunner().invoke(app, ["track", "0", "--refine"])
    assert result.exit_code != 0
    assert "whole clip" in str(result.exception or result.output)
