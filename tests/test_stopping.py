"""Runs that are stopped, or whose output folder disappears: said, resumable, and no success."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

from tokenface.head.model import HeadModel
from tokenface.jobs.reconstruct import Options, Run
from tokenface.training.metrics import Metrics, read_curve

WAITING = (
    "import time, tokenface.cli, tokenface.cli.app as commands\n"
    "commands.app = lambda **_: (print('ready', flush=True), time.sleep(60))\n"
    "tokenface.cli.main([])"
)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_is_a_message_and_a_resumable_stop_like_ctrl_c(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors


def test_an_output_folder_that_disappears_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(photo_with_marks((10, 10, 40))).save(photos / f"{name}.png")
    model = stand_in_model(HeadModel(toy_head_data()))
    monkeypatch.setattr(Run, "model", model)
    run = Run([photos], tmp_path / "out", Options(batch_size=1, formats=("ply",), overlay=False))
    for number, _ in enumerate(run):
        if number == 1:
            shutil.rmtree(tmp_path / "out")
    assert [name for name, _ in run.failures] == ["a", "b"]
    assert all("was removed while the run went on" in reason for _, reason in run.failures)
    assert [folder.name for folder, _ in run.done] == ["c"]


def test_a_curve_has_one_row_for_a_step(tmp_path: Path) -> None:
    """A run that ended is validated again when it is resumed."""
    metrics = Metrics(tmp_path)
    metrics.write("validation", 10, {"error": 1.0})
    metrics.write("validation", 20, {"error": 2.0})
    metrics.close()
    again = Metrics(tmp_path, step=20)
    again.write("validation", 20, {"error": 3.0})
    again.write("validation", 20, {"error": 4.0})
    again.write("validation", 30, {"error": 5.0})
    again.close()
    rows = read_curve(tmp_path / "validation.csv")
    assert [(row["step"], row["error"]) for row in rows] == [("10", "1"), ("20", "4"), ("30", "5")]
