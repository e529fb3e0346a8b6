"""Stages are configurations: each starts from the one before it, and mistakes are found before the first one runs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

import tokenface
from tokenface.core.configuration import from_dict, read_config, to_yaml
from tokenface.data.photos import PhotoConfig
from tokenface.errors import ConfigError
from tokenface.network.temporal import TemporalTransformer
from tokenface.network.temporal_checkpoint import save_temporal
from tokenface.training.config import RunConfig, TrainConfig
from tokenface.training.provenance import without_folders
from tokenface.training.run import train
from tokenface.training.stages import plan
from tokenface.training.temporal.config import TemporalConfig
from tokenface.video.temporal_weights import choose_temporal
from tokenface.weights import file_hash, find_weights

CONFIGS = Path(__file__).parents[1] / "configs"
STAGED = {
    "run": {"steps": 5},
    "stages": [
        {"name": "warm", "changes": {"run.steps": 9}},
        {"name": "hybrid", "changes": {"paper.mode": "hybrid", "freeze": ["backbone"], "data.share": 0.5}},
        {"name": "frames", "kind": "temporal", "changes": {"data.clips": 3}},
    ],
}


def test_stages_follow_each_other(tmp_path):
    warm, hybrid, frames = plan(from_dict(TrainConfig, STAGED), tmp_path)
    assert isinstance(warm.config, TrainConfig)
    assert isinstance(hybrid.config, TrainConfig)
    assert isinstance(frames.config, TemporalConfig)
    assert (warm.config.run.steps, hybrid.config.run.steps) == (9, 5)
    assert warm.config.start_from is None
    assert hybrid.config.start_from == str(warm.weights)
    assert hybrid.config.freeze == ("backbone",)
    assert warm.config.freeze == ()
    assert frames.config.weights == str(hybrid.weights)
    assert frames.config.data.clips == 3
    assert frames.config.output == str(frames.folder / "weights.centred.temporal.safetensors")
    assert hybrid.folder == tmp_path / "hybrid"


@pytest.mark.parametrize("mode", ["centred", "causal"])
def test_what_a_temporal_stage_leaves_serves_photos_and_clips(tmp_path, monkeypatch, mode):
    """The file that `train` names at the end is one for `reconstruct -w` and `track -w`."""
    from tokenface.training.temporal import run as temporal_run

    def quick(config_path, settings, report):
        config = read_config(TemporalConfig, config_path, settings)
        path = Path(config.output)
        save_temporal(path, TemporalTransformer(192, 6, config.mode), file_hash(find_weights(config.weights)))
        return path

    monkeypatch.setattr(temporal_run, "train_temporal", quick)
    config = {
        "start_from": "tokenface-ti",
        "run": {"folder": str(tmp_path), "name": "staged"},
        "stages": [{"name": "frames", "kind": "temporal", "changes": {"mode": mode}}],
    }
    (tmp_path / "staged.yaml").write_text(json.dumps(config))
    said: list[str] = []
    path = train(tmp_path / "staged.yaml", report=said.append)
    assert path == tmp_path / "staged" / "frames" / "weights.safetensors"
    model = tokenface.load(path)
    assert model.origin.weights_hash == file_hash(find_weights("tokenface-ti"))
    assert model.calibration is not None  # what belongs to the weights came along
    found = choose_temporal(model, mode)  # the new one, and not the one beside tokenface-ti
    assert found is not None
    assert not found.out.weight.any()
    assert choose_temporal(tokenface.load("tokenface-ti"), mode).out.weight.any()
    assert str(path.with_name(f"weights.{mode}.temporal.safetensors")) in " ".join(said)


def test_steps_of_a_stage_take_the_epochs_of_the_common_part_back(tmp_path):
    warm, hybrid, _ = plan(from_dict(TrainConfig, {**STAGED, "run": {"epochs": 10}}), tmp_path)
    assert (warm.config.run.steps, warm.config.run.epochs) == (9, 0)
    assert hybrid.config.run.epochs == 10


def test_a_stage_alone_starts_from_what_is_there(tmp_path):
    config = from_dict(TrainConfig, {**STAGED, "start_from": "tokenface-ti"})
    (hybrid,) = plan(config, tmp_path, "hybrid")
    assert hybrid.config.start_from == "tokenface-ti"
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm" / "weights.safetensors").write_bytes(b"")
    (hybrid,) = plan(config, tmp_path, "hybrid")
    assert hybrid.config.start_from == str(tmp_path / "warm" / "weights.safetensors")


def test_mistakes_in_stages_name_what_was_meant(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'hybrid'"):
        plan(from_dict(TrainConfig, STAGED), tmp_path, "hybird")
    wrong = {"stages": [{"name": "a", "changes": {"run.stepps": 3}}]}
    with pytest.raises(ConfigError, match=r"stage 'a'.*run\.stepps.*did you mean 'run\.steps'"):
        plan(from_dict(TrainConfig, wrong), tmp_path)
    with pytest.raises(ConfigError, match="same name"):
        plan(from_dict(TrainConfig, {"stages": [{"name": "a"}, {"name": "a"}]}), tmp_path)
    with pytest.raises(ConfigError, match="letters, digits"):
        from_dict(TrainConfig, {"stages": [{"name": "../a"}]})
    with pytest.raises(ConfigError, match="has no stages"):
        train(None, [f"run.folder={tmp_path}"], stage="warm")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_read_and_survive_a_round_trip(path, tmp_path):
    config = read_config(TrainConfig, path)
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert read_config(TrainConfig, tmp_path / "again.yaml") == config
    assert plan(config, tmp_path) or not config.stages


def test_the_papers_configuration_has_the_papers_numbers():
    config = read_config(TrainConfig, CONFIGS / "paper" / "tokenface-b.yaml")
    assert config.head == "flame2020"
    w, o = config.paper.weights, config.optimiser
    assert (w.three_d, w.two_d, w.mesh, w.vertex_consistency, w.eyelids, w.lips) == (0.6, 0.4, 2.0, 1.2, 0.8, 1.0)
    assert (w.shape_prior, w.expression_prior, w.texture_prior) == (1e-4, 1e-4, 1e-4)
    p = w.pose_aware
    assert (p.landmark_slope, p.landmark, p.photometric_slope, p.photometric) == (-0.76, 1.6, 0.38, 2.2)
    assert (o.name, o.weight_decay, o.learning_rate, o.final_learning_rate) == ("adamw", 0.0, 1e-4, 1.0)
    assert (config.run.batch, config.run.epochs, config.network.image_size) == (8, 10, 224)
    assert (config.network.token_std, config.network.tokens, config.network.backbone) == (0.0, 6, "vit_base_patch16")


def test_provenance_tells_no_folders():
    photos = PhotoConfig(tar="/home/somebody/photos.tar")
    config = TrainConfig(photos=photos, run=RunConfig(folder=r"C:\runs", name="a"), start_from="tokenface-ti")
    told = without_folders(config)
    assert (told.photos.tar, told.run.folder, told.start_from) == ("photos.tar", "runs", "tokenface-ti")
    assert dataclasses.replace(told, photos=photos, run=config.run) == config
    assert without_folders({"weights": ["/a/b.pth", "runs/c"]}) == {"weights": ["b.pth", "runs/c"]}


def test_shipped_weights_tell_no_folders():
    for path in (Path(tokenface.__file__).parent / "assets" / "weights").glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            text = "".join((file.metadata() or {}).values())
        assert not re.search(r"(?<![\w:/.])/(home|root|tmp|work|mnt|data)\b", text), path.name
