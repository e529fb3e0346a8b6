"""`tokenface ablate`: all rows and seeds, measured, beside the paper's numbers."""

from __future__ import annotations

import json

import pytest

from tokenface.errors import ConfigError
from tokenface.training.ablation import TABLES, ablate, interval, markdown


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
