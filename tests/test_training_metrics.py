"""Curves: rows that a resumed run will write again are dropped, new terms get columns."""

from __future__ import annotations

import builtins

import pytest

from tokenface.errors import ConfigError
from tokenface.training.metrics import Metrics, read_curve


def test_a_resumed_run_forgets_the_rows_it_will_repeat(tmp_path):
    metrics = Metrics(tmp_path)
    for step in (1, 2, 3):
        metrics.write("train", step, {"total": step / 2})
    metrics.close()
    again = Metrics(tmp_path, step=2)
    again.write("train", 3, {"total": 7.0})
    again.close()
    assert [(row["step"], row["total"]) for row in read_curve(tmp_path / "train.csv")] == [
        ("1", "0.5"),
        ("2", "1"),
        ("3", "7"),
    ]


def test_a_new_term_gets_a_column_and_old_rows_stay(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write("train", 1, {"total": 1.0})
    metrics.write("train", 2, {"total": 2.0, "mesh": 0.25})
    metrics.write("train", 3, {"mesh": 0.5})
    metrics.close()
    rows = read_curve(tmp_path / "train.csv")
    assert [row["mesh"] for row in rows] == ["", "0.25", "0.5"]
    assert [row["total"] for row in rows] == ["1", "2", ""]


def test_weights_and_biases_is_asked_for_by_name(tmp_path, monkeypatch):
    own = builtins.__import__

    def without(name, *arguments, **named):
        if name == "wandb":
            raise ImportError(name)
        return own(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"tokenface\[wandb\]"):
        Metrics(tmp_path, wandb="project")
