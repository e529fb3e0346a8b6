"""`tokenface ablate`: all rows and seeds, measured, beside the paper's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenface.errors import ConfigError
from tokenface.training.ablation import TABLES, ablate, interval, markdown
from tokenface.training.config import TrainConfig
from tokenface.training.stages import overruled, train_config


def test_a_table_is_trained_measured_and_kept(tmp_path, monkeypatch):
    path = ablate("pose-aware", tmp_path, scale="seconds", seeds=1, overrides=["run.threads=1"], report=lambda _: None)
    results = json.loads((path.parent / "results.json").read_text())
    assert set(results["runs"]) == {"without", "pose-aware"}
    for runs in results["runs"].values():
        assert list(runs) == ["0"]
        figures = runs["0"]
        assert 0.3 < figures["median"] < figures["mean"] < 10
        assert figures["mean"] != results["mean_head"]["mean"]
    assert "Fig. 7" in path.read_text()
    text, kept = path.read_text(), results["runs"]

    def never(*arguments):
        raise AssertionError("a finished row must not be trained again")

    monkeypatch.setattr("tokenface.training.ablation.train", never)
    ablate("pose-aware", tmp_path, scale="seconds", seeds=1, overrides=["run.threads=1"], report=lambda _: None)
    assert path.read_text() == text
    assert json.loads((path.parent / "results.json").read_text())["runs"] == kept
    with pytest.raises(ConfigError, match="other settings"):
        ablate("pose-aware", tmp_path, scale="seconds", seeds=1, overrides=["run.steps=3"], report=lambda _: None)


PAPER = Path(__file__).parents[1] / "configs" / "paper" / "tokenface-b.yaml"


def planned(monkeypatch, tmp_path, table: str, **options) -> tuple[dict[str, TrainConfig], list[str]]:
    """The settings that each row would be trained with, and what was said."""
    rows, said = {}, []
    figures = {"median": 1.0, "mean": 1.0, "std": 1.0}

    def look(run, config_path, changes, *rest):
        rows[run.name] = train_config(config_path, changes)
        return {**figures, "nme": 1.0}

    monkeypatch.setattr("tokenface.training.ablation._trained", look)
    monkeypatch.setattr("tokenface.training.ablation.rendered_people", lambda *rest: None)
    monkeypatch.setattr("tokenface.training.ablation.find_shards", lambda root: [])
    monkeypatch.setattr("tokenface.training.ablation.HeldOut", lambda *rest: SimpleNamespace(mean_head=lambda: figures))
    ablate(table, tmp_path, seeds=1, report=said.append, **options)
    return rows, said


@pytest.mark.parametrize("scale", ["minutes", "full", "file"])
def test_the_papers_file_is_run_with_the_papers_settings_at_any_scale(monkeypatch, tmp_path, scale):
    overrides = ["head=openhead", "data.root=null"]
    rows, said = planned(monkeypatch, tmp_path, "weights", scale=scale, config_path=PAPER, overrides=overrides)
    paper = train_config(PAPER, overrides)
    for name, config in rows.items():
        assert (config.run.batch, config.run.epochs, config.network.image_size) == (8, 10, 224), name
        assert config.optimiser == paper.optimiser
        assert config.network == paper.network
        assert config.paper.identity_encoder == paper.paper.identity_encoder
    assert {config.paper.weights.two_d for config in rows.values()} == {0.3, 0.4, 0.5, 0.6}
    assert any("later ones win: defaults, scale, configuration file, command line, row" in line for line in said)
    if scale == "full":
        assert any("run.batch=64 is 8" in line for line in said)


def test_the_command_line_is_above_the_file_and_a_row_above_both(monkeypatch, tmp_path):
    overrides = ["run.steps=7", "run.batch=4", "head=openhead", "data.root=null", "network.tokens=5"]
    rows, _ = planned(
        monkeypatch, tmp_path, "tokens", scale="seconds", config_path=PAPER,
        overrides=[*overrides, "6 tokens:run.batch=2"],
    )  # fmt: skip
    assert {name: config.network.tokens for name, config in rows.items()} == {
        "1-token-seed0": 1, "3-tokens-seed0": 3, "5-tokens-seed0": 5, "6-tokens-seed0": 6,
    }  # fmt: skip
    for config in rows.values():
        assert (config.run.steps, config.run.epochs) == (7, 0)  # steps take the file's epochs back
    assert [config.run.batch for config in rows.values()] == [4, 4, 4, 2]
    with pytest.raises(ConfigError, match="did you mean '6 tokens'"):
        planned(monkeypatch, tmp_path / "b", "tokens", scale="seconds", overrides=["6 token:run.batch=2"])


def test_weights_of_one_backbone_do_not_stop_the_table_of_backbones(monkeypatch, tmp_path):
    rows, said = planned(
        monkeypatch, tmp_path, "backbone", scale="seconds", overrides=["backbone_weights=tokenface-ti"]
    )
    assert [config.backbone_weights for config in rows.values()] == [None, "tokenface-ti"]
    assert any("ResNet50 starts from nothing" in line and "ResNet50:backbone_weights=FILE" in line for line in said)
    overrides = ["backbone_weights=tokenface-ti", "ResNet50:backbone_weights=resnet50.pth"]
    rows, _ = planned(monkeypatch, tmp_path / "b", "backbone", scale="seconds", overrides=overrides)
    assert [config.backbone_weights for config in rows.values()] == ["resnet50.pth", "tokenface-ti"]


def test_steps_and_epochs_are_one_setting_for_train_as_well(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("run: {epochs: 10}")
    assert train_config(file).run.epochs == 10
    assert train_config(file, ["run.steps=1"]).run == train_config(None, ["run.steps=1"]).run
    assert train_config(file, ["run.steps=1", "run.epochs=2"]).run.epochs == 2
    assert train_config(None, ["run.epochs=3"], ["run.steps=600"]).run.epochs == 3


def test_a_scales_own_lists_and_numbers_are_not_called_overruled():
    changes = ["network.label_sources=[youtube_faces]", "run.steps=5", "optimiser.learning_rate=2e-3"]
    assert overruled(changes, train_config(None, (), changes)) == []
    assert overruled(changes, train_config(None, ["network.label_sources=[]"], changes)) == [
        "network.label_sources=[youtube_faces] is ()"
    ]


def test_nows_validation_stands_beside_the_papers_numbers():
    figures = {"median": 1.0, "mean": 2.0, "std": 3.0, "nme": 4.0, "now median": 0.9, "now mean": 1.1, "now std": 0.8}
    runs = {row.name: {0: figures} for row in TABLES["data"].rows}
    text = markdown(TABLES["data"], "file", runs, {"median": 1, "mean": 1, "std": 1})
    assert "| NoW median | mean | std | the paper's median |" in text
    assert "| 0.900 | 1.100 | 0.800 | 0.79 | 0.99 | 0.85 |" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {14}


def test_the_interval_is_students():
    # t(0.975, 2) = 4.3027; standard error of 1, 2, 3 is 1/√3
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.30265 / 3**0.5, rel=1e-4))
    assert interval([1.5]) == (1.5, None)


def test_the_papers_numbers_stand_beside_ours_and_are_labelled():
    figures = {"median": 1.0, "mean": 2.0, "std": 3.0, "nme": 4.0}
    runs = {row.name: {0: figures, 1: {**figures, "mean": 3.0}} for row in TABLES["tokens"].rows}
    runs["1 token"] = {0: {**figures, "mean": 2.5}, 1: {**figures, "mean": 3.7}}
    runs["3 tokens"] = {}
    text = markdown(TABLES["tokens"], "minutes", runs, {"median": 1, "mean": 1, "std": 1})
    assert "the paper's median" in text
    assert "0 to 2 seed(s)" in text
    whole = "1.000 ± 0.000 | 2.500 ± 6.353 | 3.000 ± 0.000 | 4.000 ± 0.000"
    assert f"| 6 tokens | 2 | {whole} |  | 0.79 | 0.99 | 0.85 |" in text
    # differences of the same seeds, 0.5 and 0.7: t(0.975, 1) = 12.706 times 0.1
    assert "| +0.600 ± 1.271 | 1.08 | 1.41 | 1.19 |" in text
    assert "| 3 tokens | 0 | – | – | – | – | – | 1.05 | 1.31 | 1.10 |" in text
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {11}
    assert {row.paper for row in TABLES["data"].rows} == {(1.03, 1.31, 1.11), (0.85, 1.08, 0.89), (0.79, 0.99, 0.85)}
    assert all(table.reference in {row.name for row in table.rows} for table in TABLES.values())


def test_a_table_cut_short_has_the_rows_of_whole_seeds(tmp_path, monkeypatch):
    """Seeds come one after the other, and what is measured is on disk at once."""
    trained = []

    def stop_in_the_second_seed(run, *rest):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(run.name)
        return {"median": 1.0, "mean": float(len(trained)), "std": 1.0, "nme": 1.0}

    monkeypatch.setattr("tokenface.training.ablation._trained", stop_in_the_second_seed)
    monkeypatch.setattr("tokenface.training.ablation.rendered_people", lambda *rest: None)
    monkeypatch.setattr("tokenface.training.ablation.find_shards", lambda root: [])
    with pytest.raises(KeyboardInterrupt):
        ablate("pose-aware", tmp_path, scale="seconds", report=lambda _: None)
    assert trained == ["without-seed0", "pose-aware-seed0", "without-seed1"]
    content = json.loads((tmp_path / "pose-aware-seconds" / "results.json").read_text())
    assert {name: list(runs) for name, runs in content["runs"].items()} == {"without": ["0", "1"], "pose-aware": ["0"]}
    assert "| without | 2 |" in (tmp_path / "pose-aware-seconds" / "table.md").read_text()


def test_a_warm_start_of_whole_networks_is_refused_where_the_rows_have_other_ones(tmp_path):
    with pytest.raises(ConfigError, match="backbone_weights"):
        ablate("tokens", tmp_path, scale="seconds", overrides=["start_from=tokenface-ti"])


def test_an_unknown_table_or_scale_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'tokens'"):
        ablate("token", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'minutes'"):
        ablate("tokens", tmp_path, scale="minute")
