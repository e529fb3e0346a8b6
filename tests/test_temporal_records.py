"""Real clips for the temporal transformer: windows of videos, runs inside one shot, losses, a run with shards."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stand_ins import MarkDetector
from test_temporal import TokenMarks, synthetic_features
from toy_head import toy_head_data
from video_stand_ins import scene, write_clip

from tokenface.cli import run as command_line
from tokenface.data.readers.dataset import Loaded
from tokenface.data.readers.video import read_item, windows_of
from tokenface.data.record import FaceRecord, Item, Picture
from tokenface.data.shards import encode_record, write_shard
from tokenface.errors import DataError
from tokenface.head.model import HeadModel
from tokenface.inference.face import Origin
from tokenface.inference.predictor import Predictor
from tokenface.model import Reconstructor
from tokenface.network.temporal import TemporalTransformer
from tokenface.network.temporal_checkpoint import read_temporal_metadata
from tokenface.prepare.item import ItemPreparer
from tokenface.training.temporal import run as temporal_run
from tokenface.training.temporal.config import RecordLosses, SequenceData, TemporalLosses
from tokenface.training.temporal.fitting import real_runs
from tokenface.training.temporal.objective import RecordObjective, TemporalObjective
from tokenface.training.temporal.records import RecordClips, RecordFeatures, shots
from tokenface.training.temporal.run import split_people, train_temporal
from tokenface.training.temporal.validation import measure_records
from tokenface.video.prediction import predict_views

FRAMES = 12


@pytest.fixture(scope="module")
def model() -> Reconstructor:
    head = HeadModel(toy_head_data())
    network = TokenMarks(head).eval().requires_grad_(False)
    origin = Origin("stand-in", "0" * 16, head.data.geometry_hash())
    return Reconstructor(network, head, 32, origin, "cpu", MarkDetector())


def room(seed: int) -> np.ndarray:
    """[120, 160, 3] coloured tiles: another seed is another shot."""
    tiles = np.random.default_rng(seed).integers(0, 200, (6, 8, 3)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
    tiles[..., 0] //= 2  # nothing as red as a face
    return tiles


def with_mark(ground: np.ndarray, x: int, y: int, side: int = 30) -> np.ndarray:
    image = ground.copy()
    image[y : y + side, x : x + side] = scene((0, 0, side))[:side, :side]
    return image


def record_of(model: Reconstructor, images: list[np.ndarray], name: str = "a", key: str = "clip") -> FaceRecord:
    """A clip whose landmarks are where the stand-in network sees them."""
    pictures = []
    for image in images:
        found = MarkDetector().detect(image)
        points = np.full((68, 2), 60.0)
        if found:
            look = predict_views(model, image, [found[0].crop(model.crop_scale)])[0]
            points = predict_views(model, image, [look.crop])[0].landmarks68
        box = np.concatenate([points.min(0), points.max(0)]).astype(np.float32)
        pictures.append(Picture(image, points.astype(np.float32), np.ones(68, bool), np.zeros(3, np.float32), box))
    return FaceRecord(f"test-{key}", "clip", tuple(pictures), f"test/{name}", "test", key, "CC0")


def shards(model: Reconstructor, folder: Path, people: int = 4) -> Path:
    records = []
    for person in range(people):
        images = [with_mark(room(person), 50 + i, 40) for i in range(FRAMES)]
        record = record_of(model, images, f"p{person}", f"clip{person}")
        records.append((record.key, encode_record(record)))
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "test-00000.tar", records)
    return folder


def test_a_video_becomes_windows_that_follow_each_other(tmp_path: Path) -> None:
    images = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(20)]
    path = write_clip(tmp_path / "v.mp4", images)
    windows = windows_of(Item("v", "clip", (path,)), 6)
    assert [window.key for window in windows] == ["v-000000", "v-000006", "v-000012"]
    levels = [[round(float(frame.mean()) / 10) for frame in read_item(window)] for window in windows]
    assert levels == [list(range(0, 6)), list(range(6, 12)), list(range(12, 18))]
    assert [w.key for w in windows_of(Item("v", "clip", (path,)), 50)] == ["v-000000"]
    photo = Item("p", "photo", (tmp_path / "p.jpg",))
    assert windows_of(photo, 6) == [photo]


class Everything:
    """Sees the same face in every picture."""

    def examine(self, image: np.ndarray, *_) -> SimpleNamespace:
        box = np.array([40.0, 40, 80, 80])
        return SimpleNamespace(image=image, box=box, square=lambda: ((box[:2] + box[2:]) / 2, 80.0))

    def cropped(self, seen: SimpleNamespace, *_) -> np.ndarray:
        return seen.image


def test_a_prepared_clip_ends_at_a_cut() -> None:
    """The face stays where it is, so that only the picture tells of the cut."""
    images = [room(0)] * 4 + [room(1)] * 6
    preparer = object.__new__(ItemPreparer)
    preparer.pictures = Everything()  # type: ignore[assignment]
    found = preparer._clip(Item("v", "clip", (Path("v.mp4"),)), Loaded(images, [None] * 10))
    assert len(found) == 6  # type: ignore[arg-type]
    assert all(np.array_equal(image, images[-1]) for image in found)  # type: ignore[union-attr,arg-type]


def test_runs_do_not_cross_a_cut_or_a_lost_face(model: Reconstructor, tmp_path: Path) -> None:
    first = [with_mark(room(0), 50 + i, 40) for i in range(9)]
    gap = [room(0)]
    second = [with_mark(room(1), 60, 45 + i) for i in range(10)]
    record = record_of(model, [*first, *gap, *first[:3], *second])
    assert [(shot.start, shot.stop) for shot in shots(record)] == [(0, 13), (13, 23)]
    write_shard(tmp_path / "test-00000.tar", [(record.key, encode_record(record))])
    clips = RecordClips(model, tmp_path, tmp_path / "seen", 3, lambda line: None)
    assert clips.people == ["test/a"]
    runs = clips.of(frozenset(clips.people))
    assert [len(run) for run in runs] == [9, 3, 10]
    assert [
        len(run) for run in RecordClips(model, tmp_path, tmp_path / "seen", 9, print).of(frozenset(clips.people))
    ] == [9, 10]
    generator = torch.Generator().manual_seed(0)
    batch = real_runs(runs, 40, 3, (1, 2, 9), generator)
    starts = torch.cat([run.points for run in runs])
    for run in batch.points:  # every frame of a run is one of the same clip, in order
        places = [int((starts - frame).abs().sum((1, 2)).argmin()) for frame in run]
        owner = np.searchsorted([9, 12, 22], places, side="right")
        assert len(set(owner)) == 1
        assert np.all(np.diff(places) == places[1] - places[0])
        assert places[1] > places[0]


def record_features(objective: RecordObjective, model: Reconstructor) -> tuple[RecordFeatures, torch.Tensor]:
    """Still people under noise, and the tokens that are right: labels are the landmarks of those."""
    clips = synthetic_features(model.network, model.head)  # type: ignore[arg-type]
    mean = clips.tokens.mean(dim=1, keepdim=True).expand_as(clips.tokens)
    with torch.no_grad():
        points = objective.landmarks(objective.base.parameters(mean), clips.crops)
    visible = torch.ones(points.shape[:3], dtype=torch.bool)
    return RecordFeatures(clips.tokens, clips.crops, points, visible), mean


@pytest.fixture(scope="module")
def objective(model: Reconstructor) -> RecordObjective:
    base = TemporalObjective(model.network, model.head, TemporalLosses())  # type: ignore[arg-type]
    return RecordObjective(base, RecordLosses())


def test_real_losses_are_zero_at_the_truth_up_to_the_mean_error(
    objective: RecordObjective, model: Reconstructor
) -> None:
    clips, right = record_features(objective, model)
    # labels with a bias of their own, and an image model that errs the same way in every frame
    with torch.no_grad():
        own = objective.landmarks(objective.base.parameters(right), clips.crops)
    bias = dataclasses.replace(clips, tokens=right, points=own + torch.randn(68, 2) * 3)
    terms = objective.terms(right, bias)
    assert all(
        float(terms[name]) < 1e-5
        for name in ("prior", "landmarks", "eyelids", "lips", "identity", "appearance", "stay")
    )
    noisy = objective.terms(clips.tokens, clips)
    assert all(float(noisy[name]) > 1e-4 for name in ("landmarks", "eyelids", "lips", "identity"))


def test_hidden_landmarks_do_not_count(objective: RecordObjective, model: Reconstructor) -> None:
    clips, _ = record_features(objective, model)
    clips.visible[..., 30:] = False
    clips.points[..., 30:, :] += 50 * torch.randn_like(clips.points[..., 30:, :])
    plain = objective.terms(clips.tokens, clips)
    clips.points[..., 30:, :] += 50
    for name, value in objective.terms(clips.tokens, clips).items():
        assert float(value) == pytest.approx(float(plain[name])), name


def test_figures_of_real_clips(objective: RecordObjective, model: Reconstructor) -> None:
    clips, right = record_features(objective, model)
    noisy = [clips.run(index) for index in range(3)]
    still = [dataclasses.replace(clip, tokens=right[index]) for index, clip in enumerate(noisy)]
    shaken, calm = (measure_records(objective, each, None) for each in (noisy, still))
    assert calm.error == pytest.approx(0, abs=1e-3)
    assert calm.unexplained == pytest.approx(0, abs=1e-3)
    assert calm.jitter == pytest.approx(0, abs=1e-3)
    assert min(shaken.error, shaken.motion_error, shaken.jitter, shaken.unexplained) > 0.1
    untrained = TemporalTransformer(192, 6).eval()
    assert measure_records(objective, noisy, untrained) == shaken


def test_people_are_named_or_drawn_and_never_in_two_groups() -> None:
    names = [f"p{i}" for i in range(9)]
    drawn = split_people(names, SequenceData(root="shards"))
    assert sorted(map(len, drawn)) == [1, 1, 7]
    assert frozenset.union(*drawn) == set(names)
    named = split_people(names, SequenceData(root="s", held_out_people=("p3", "p4"), validation_people=("p0",)))
    assert named.held_out == {"p3", "p4"}
    assert named.validation == {"p0"}
    assert len(named.training) == 6
    with pytest.raises(DataError, match=r"nobody named 'p33'.*did you mean 'p3'"):
        split_people(names, SequenceData(root="s", held_out_people=("p33",)))
    with pytest.raises(DataError, match="name each once"):
        split_people(names, SequenceData(root="s", held_out_people=("p3",), validation_people=("p3",)))
    with pytest.raises(DataError, match="none is left"):
        split_people(["a", "b"], SequenceData(root="s"))


def small(folder: Path, root: Path) -> list[str]:
    return [
        f"folder={folder}",
        f"output={folder / 'out.safetensors'}",
        f"data.root={root}",
        *("data.clips=2", "data.held_out=3", "data.frames=12", "data.pixels=64", "data.held_out_people=[test/p1]"),
        *("optimiser.steps=2", "optimiser.batch=3", "optimiser.length=6"),
    ]


def test_a_run_with_real_clips_trains_and_goes_on(
    model: Reconstructor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shards(model, tmp_path / "shards")
    monkeypatch.setattr(temporal_run.Predictor, "load", lambda *_: model)
    lines: list[str] = []
    path = train_temporal(None, small(tmp_path / "run", root), lines.append)
    facts = read_temporal_metadata(path)
    assert str(tmp_path) not in json.dumps(facts)  # weights travel
    figures = facts["metrics"]["real"]
    assert figures["frames"] == FRAMES
    assert figures["per_frame"]["error"] > 0
    assert any("real_landmarks" in line for line in lines)
    assert any("held out: 12 frames of test/p1" in line for line in lines)
    looks: list[int] = []
    monkeypatch.setattr(Predictor, "predictions", lambda *_, **__: looks.append(1))
    before = path.read_bytes()
    path.unlink()
    assert train_temporal(None, small(tmp_path / "run", root), lines.append).read_bytes() != b""
    assert not looks  # everything was kept
    assert json.loads((tmp_path / "run" / "figures.json").read_text())["real"] == figures
    assert len(before) == path.stat().st_size


def test_bad_shards_are_one_line(model: Reconstructor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_run.Predictor, "load", lambda *_: model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no shards"):
        train_temporal(None, small(tmp_path / "run", tmp_path / "empty"), print)
    root = shards(model, tmp_path / "shards")
    with pytest.raises(DataError, match="has 40 good frames in a row"):
        train_temporal(None, [*small(tmp_path / "run", root), "optimiser.length=40"], print)
    assert command_line(["train-temporal", "data.root=nowhere", f"folder={tmp_path / 'run'}"]) != 0
    tar = root / "test-00000.tar"
    data = bytearray(tar.read_bytes())
    at = data.index(b"\xff\xd8\xff") + 200
    data[at : at + 64] = b"\0" * 64
    tar.write_bytes(data)
    lines: list[str] = []
    clips = RecordClips(model, root, tmp_path / "other", 6, lines.append)
    assert len(clips.of(frozenset(clips.people))) == 3
    assert [line for line in lines if "left out" in line and "checksum" in line]
