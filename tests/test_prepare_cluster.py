"""Preparation on a real local Ray: the local pool's shards byte for byte, whatever dies on the way."""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial

import pool_functions
import pytest
from test_prepare import OPTIONS, no_networks, photos  # noqa: F401 (a fixture)

from tokenface.cli import run as command_line
from tokenface.core.cluster import RayPool
from tokenface.errors import ConfigError, DataError
from tokenface.head.registry import load_head
from tokenface.prepare.run import Preparation


def actors() -> list:
    """The processes that hold the workers of Ray Data on this machine."""
    import psutil

    return [child for child in psutil.Process().children(recursive=True) if "MapWorker" in child.name()]


def test_a_cluster_that_does_not_answer_is_named():
    pytest.importorskip("ray", reason="needs Ray; pip install 'tokenface[cluster]'")
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster at '{address}'.*ray start"):
            RayPool(pool_functions.make_square, 1, partial(int.__neg__), address)


def test_a_killed_worker_costs_nothing_and_a_deadly_item_itself(ray):
    pool = RayPool(pool_functions.make_square, None, partial(int.__neg__), "local")
    assert pool.workers == 2
    results = pool.map(range(24))
    found = [next(results) for _ in range(3)]
    workers = actors()
    assert workers
    workers[0].send_signal(signal.SIGKILL)
    found += results
    assert found == [-5 if number == 5 else number * number for number in range(24)]


def test_ray_writes_the_very_shards_that_the_local_pool_writes(tmp_path, no_networks, monkeypatch, ray):  # noqa: F811
    source = photos(tmp_path / "photos", load_head(), 10)
    sorted(source.rglob("*.png"))[6].write_bytes(b"<html>gone</html>")
    local = Preparation("folder", source, tmp_path / "local", OPTIONS)
    assert sum(local) == 10
    stopped = iter(Preparation("folder", source, tmp_path / "ray", OPTIONS))
    for _ in range(6):  # one shard done, the second half way
        next(stopped)
    stopped.close()
    monkeypatch.setattr("tokenface.prepare.run.ItemPreparer", pool_functions.OfflinePreparer)
    run = Preparation("folder", source, tmp_path / "ray", OPTIONS, ray="local")
    assert sum(run) == 10
    assert run.report.skipped_shards == 1
    assert (run.report.done, run.report.failures) == (local.report.done, local.report.failures) != (10, [])
    expected = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "ray").iterdir()} == expected


def test_what_a_user_can_mend_comes_out_of_the_cluster_as_it_is(ray):
    pool = RayPool(pool_functions.make_nothing, 1, partial(int.__neg__), "local")
    with pytest.raises(DataError, match=r"^nothing can be made here$"):
        list(pool.map(range(3)))


def test_a_missing_ray_says_how_to_get_it(tmp_path, no_networks, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    source = photos(tmp_path / "photos", load_head(), 1)
    with pytest.raises(ConfigError, match=r"tokenface\[cluster\]"):
        RayPool(pool_functions.make_square, 1, partial(int.__neg__), "auto")
    assert command_line(["prepare", "folder", str(source), "-o", str(tmp_path / "shards"), "--ray", "auto"]) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
