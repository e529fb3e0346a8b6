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
    for (figures,) in results["runs"].values():
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


def test_the_interval_is_students():
    # t(0.975, 2) = 4.3027; standard error of 1, 2, 3 is 1/√3
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.30265 / 3**0.5, rel=1e-4))
    assert interval([1.5]) == (1.5, None)


def test_the_papers_numbers_stand_beside_ours_and_are_labelled():
    figures = {"median": 1.0, "mean": 2.0, "std": 3.0, "nme": 4.0}
    runs = {row.name: [figures, {**figures, "mean": 3.0}] for row in TABLES["tokens"].rows}
    text = markdown(TABLES["tokens"], "minutes", runs, {"median": 1, "mean": 1, "std": 1})
    assert "the paper's median" in text
    assert "| 6 tokens | 1.000 ± 0.000 | 2.500 ± 6.353 | 3.000 ± 0.000 | 4.000 ± 0.000 | 0.79 | 0.99 | 0.85 |" in text
    assert {row.paper for row in TABLES["data"].rows} == {(1.03, 1.31, 1.11), (0.85, 1.08, 0.89), (0.79, 0.99, 0.85)}


def test_an_unknown_table_or_scale_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'tokens'"):
        ablate("token", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'minutes'"):
        ablate("tokens", tmp_path, scale="minute")
