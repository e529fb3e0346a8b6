"""Bulk runs on worker processes and a real local Ray: the same tables, whoever makes them and whatever dies."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from bulk_workers import DEADLY, WISH, MortalWorker, StandInWorker
from PIL import Image
from stand_ins import photo_with_marks

pytest.importorskip("pyarrow", reason="needs the extra 'tables'")

from tokenface.jobs.bulk import run as bulk_run
from tokenface.jobs.bulk.run import BulkRun
from tokenface.jobs.bulk.shard import BulkOptions

SHARDS, PER_SHARD = 8, 3
OPTIONS = BulkOptions(per_shard=PER_SHARD)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(SHARDS * PER_SHARD):
        x, y = random.integers(0, 60, 2)
        Image.fromarray(photo_with_marks((int(x), int(y), 40))).save(folder / f"{number:03d}.png")
    return folder


def tables(folder: Path) -> dict[str, bytes]:
    """What is finished: a process that is killed may leave a `.part`."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".part"}


def plain(photos: Path, output: Path, monkeypatch) -> dict[str, bytes]:
    """What one process makes."""
    monkeypatch.setattr(bulk_run, "ShardWorker", StandInWorker)
    assert sum(report.photos for report in BulkRun(photos, output, OPTIONS)) == SHARDS * PER_SHARD
    return tables(output)


def test_two_processes_make_the_tables_of_one(photos, tmp_path, monkeypatch):
    expected = plain(photos, tmp_path / "one", monkeypatch)
    assert len(expected) == SHARDS
    assert [report.number for report in BulkRun(photos, tmp_path / "two", OPTIONS, workers=2)] == list(range(SHARDS))
    assert tables(tmp_path / "two") == expected


def test_a_killed_process_costs_its_shard_and_the_next_run_has_it_again(photos, tmp_path, monkeypatch):
    expected = plain(photos, tmp_path / "one", monkeypatch)
    monkeypatch.setattr(bulk_run, "ShardWorker", MortalWorker)
    work = BulkRun(photos, tmp_path / "two", OPTIONS, workers=2)
    reports = list(work)
    assert [report.failed for report in reports] == [0] * (DEADLY + 1) + [PER_SHARD] + [0] * (SHARDS - DEADLY - 2)
    assert "crash" in reports[DEADLY + 1].failures[0][1]
    lost = f"faces-{DEADLY + 1:06d}.parquet"
    assert tables(tmp_path / "two") == {name: data for name, data in expected.items() if name != lost}
    monkeypatch.setattr(bulk_run, "ShardWorker", StandInWorker)
    assert [report.skipped for report in BulkRun(photos, tmp_path / "two", OPTIONS)].count(False) == 1
    assert tables(tmp_path / "two") == expected


def test_ray_makes_the_same_tables_though_a_process_and_an_actor_are_killed(photos, tmp_path, monkeypatch, ray):
    import psutil

    expected = plain(photos, tmp_path / "one", monkeypatch)
    (tmp_path / WISH).write_text("yes", encoding="utf-8")
    work = BulkRun(photos, tmp_path / "ray", OPTIONS, ray="local")
    monkeypatch.setattr(bulk_run, "ShardWorker", MortalWorker)
    reports = iter(work)
    found = [next(reports)]
    actors = [child for child in psutil.Process().children(recursive=True) if "MapWorker" in child.name()]
    assert actors
    actors[0].send_signal(signal.SIGKILL)
    found += reports
    assert [report.number for report in found] == list(range(SHARDS))
    assert not (tmp_path / WISH).exists()  # the process was killed
    lost = f"faces-{DEADLY + 1:06d}.parquet"
    assert tables(tmp_path / "ray") == {name: data for name, data in expected.items() if name != lost}
