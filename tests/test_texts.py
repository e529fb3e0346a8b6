"""Texts that people read: true, complete, and fit for where they are read."""

from __future__ import annotations

import io
import re
import time
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import tokenface.cli.console
import tokenface.cli.track
from tokenface import cli
from tokenface.cli.console import SUCCESS
from tokenface.cli.track import SETTLED, _work
from tokenface.errors import ConfigError, ImageError, plain_words
from tokenface.head.registry import load_head
from tokenface.images.loading import load_image

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments", [["head", "list"], ["doctor"]], ids=" ".join)
def test_lists_are_readable_at_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(arguments)
    lines = capsys.readouterr().out.splitlines()
    words = [len(line.split()) for line in lines if line.startswith(" " * 40)]
    assert not words  # no column of single words at the right
    assert not [line for line in lines if "…" in line]  # nothing is cut off


def test_remedies_of_the_doctor_stand_on_their_own_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenface.cli import doctor

    remedy = "pip install 'tokenface[something]'"
    finding = doctor.Finding("optional", "a package of a long name is not installed, alas", "optional", remedy)
    monkeypatch.setattr(doctor, "diagnose", lambda: [finding])
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(["doctor"])
    assert f"→ {remedy}" in [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_the_version_is_said_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == SUCCESS
    first = capsys.readouterr().out
    assert cli.run(["version"]) == SUCCESS
    assert capsys.readouterr().out == first
    assert re.fullmatch(r"tokenface \d+\.\d+\.\d+\n", first)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person at a terminal sees of progress."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    for module in (tokenface.cli.console, tokenface.cli.track):
        monkeypatch.setattr(module, "err", lambda: console)
    return shown


def test_a_rate_is_shown_once_there_is_one(terminal: io.StringIO) -> None:
    """Frames of an earlier run come at once, and are no speed."""
    steps = [SimpleNamespace(stage="track", done=64 + number, total=90) for number in range(SETTLED)]
    _work(steps)
    assert "tracking" in terminal.getvalue()
    assert "frames/s" not in terminal.getvalue()
    _work([*steps, *steps, *steps])
    assert "frames/s" in terminal.getvalue()


def test_export_says_what_it_is_doing(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait_for(words: str) -> None:
        end = time.monotonic() + 60  # a thread draws it
        while words not in terminal.getvalue() and time.monotonic() < end:
            time.sleep(0.05)

    def run(weights, output, runtimes, precisions, report, photos) -> None:
        wait_for("exporting")
        report("network.onnx 0.001 mm")
        wait_for("last file: network.onnx")

    monkeypatch.setattr("tokenface.deploy.export.export", run)
    monkeypatch.setattr("tokenface.cli.needs.need_export", lambda name: None)
    assert cli.run(["export"]) == SUCCESS
    assert "last file: network.onnx" in terminal.getvalue()
    assert "network.onnx 0.001 mm" in capsys.readouterr().out


def test_visitors_of_a_server_are_not_sent_to_its_command_line() -> None:
    with pytest.raises(ImageError) as caught:
        load_image(np.zeros((20, 30, 3), np.uint8), max_pixels=100)
    assert "--max-pixels" in str(caught.value)
    assert plain_words(caught.value) == "the array has 30 × 20 = 0 million pixels, more than the limit of 0"
    for text in ("no face found in 'a.jpg'; give a box (--boxes, boxes=) if there is one", "no 'x'; run 'tokenface y'"):
        assert "--" not in plain_words(ConfigError(text))
        assert "tokenface" not in plain_words(ConfigError(text))
    assert plain_words(ConfigError("only this")) == "only this"


def test_hints_about_head_models_are_whole_commands() -> None:
    with pytest.raises(Exception, match="tokenface head add flame PATH"):
        load_head("flame2020-that-nobody-added")
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "tokenface").rglob("*.py"))
    assert not re.findall(r"'tokenface head add'", source)


def test_no_rule_of_contributing_stands_there_twice() -> None:
    bullets = re.findall(r"^\* (.{40})", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(bullets) == len(set(bullets)) > 5


def test_styles_of_the_page_touch_no_class_of_gradios() -> None:
    css = (resources.files("tokenface") / "app" / "static" / "page.css").read_text()
    assert not re.findall(r"(?<![\w-])\.empty\b", css)
