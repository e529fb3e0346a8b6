"""`benchmarks.peers` at toy size: the table is complete, ratios are made round by round, reasons are given."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import peers
from benchmarks.peers import compare, table
from benchmarks.peers_candidates import GROUPS, Pair, Sizes, Skipped, plain_measure


def test_ratios_are_made_within_a_round_so_that_a_busy_machine_falsifies_none():
    now, slowness, calls = 0.0, iter([1, 1, 1, 5, 5, 1, 1, 40, 40, 1, 1]), []

    def work(name: str, seconds: float):
        def run() -> None:
            nonlocal now
            calls.append(name)
            now += seconds * factor[0]

        return run

    factor = [1.0]

    def round_begins() -> None:
        factor[0] = next(slowness)

    a, b = work("a", 3.0), work("b", 2.0)

    def ours() -> None:
        round_begins()
        a()

    rows = compare("test", [Pair("a / b", ours, b, "≤ 2"), Skipped("c", "not installed")], 5, lambda: now)
    assert calls == ["a", "b"] * 6
    assert rows[0].ratio == rows[0].low == rows[0].high == pytest.approx(1.5)
    assert rows[1].line() == "| c | skipped: not installed |  | |"


def test_ratios_count_what_a_call_does():
    now = 0.0

    def passes(seconds: float):
        def run() -> None:
            nonlocal now
            now += seconds

        return run

    (row,) = compare("test", [Pair("eight / one", passes(8.0), passes(2.0), count=8)], 2, lambda: now)
    assert row.ratio == pytest.approx(0.5)


def test_a_group_that_fails_is_a_row(monkeypatch):
    def broken(sizes: Sizes):
        raise RuntimeError("no such model\nmore")

    monkeypatch.setitem(peers.GROUPS, "heads", broken)
    (row,) = table(["heads"], Sizes(small=True), 1)
    assert (row.ratio, row.skipped) == (None, "RuntimeError: no such model")


@pytest.mark.parametrize("name", [*GROUPS])
def test_every_group_gives_its_rows(name):
    """Nothing may be left out but for what is not installed."""
    if name in ("networks", "frames"):
        pytest.importorskip("skimage")
    if name == "scans":
        pytest.importorskip("igl")
    counts = {"networks": 4, "heads": 2, "rasterisers": 2, "scans": 2, "steps": 1, "frames": 1}
    rows = list(table([name], Sizes(small=True), 1))
    assert len(rows) == counts[name], rows
    for row in rows:
        assert (row.ratio is not None and row.ratio > 0) or any(
            part in row.skipped for part in ("Sim3DR is not there", "smplx is not installed", "pip install trimesh")
        ), row


def test_the_plain_way_measures_what_ours_measures():
    pytest.importorskip("igl")
    import torch

    from tokenface.evaluation.icp import Surface
    from tokenface.evaluation.scan_to_mesh import measure, scan_face
    from tokenface.geometry.landmarks import NOW7
    from tokenface.head.registry import load_head

    head = load_head()
    two = head(torch.randn(2, head.sizes.shape, generator=torch.Generator().manual_seed(1))).vertices
    seven = head.landmarks68(two)[:, list(NOW7)].numpy()
    faces, scan = head.faces.numpy(), scan_face(two[0].numpy()[::20], seven[0])
    ours = measure(scan, Surface(two[1].numpy(), faces), seven[1]).distances
    plain = plain_measure(scan.points, two[1].numpy(), faces, seven[1], seven[0])
    assert np.sqrt(np.square(plain).mean()) == pytest.approx(np.sqrt(np.square(ours).mean()), rel=0.05)
