"""`benchmarks.scale`: sums on paper, and the simulation in small with processes of this machine."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow", reason="needs the extra 'tables'")

from benchmarks.scale import Parts, measured_parts, on_paper, simulate


def test_the_sums_on_paper():
    figures = on_paper(1000, 256, Parts(driver=200, manifest=50, table=1_000_000, footer=10_000))
    assert figures["tables"] == 4
    assert figures["requests of the run"] == 1004
    assert figures["requests of a restart"] == 1 + 8
    assert figures["read at a restart, GB"] == pytest.approx(4e-5)
    assert figures["driver memory, GB"] == pytest.approx(2e-4)


def test_the_end_of_a_table_is_a_small_part_of_it():
    parts = measured_parts(per_shard=64, photos=640)
    assert parts.footer < parts.table / 8
    assert 40 < parts.manifest < parts.driver < 2000


def test_every_record_is_in_one_table_although_a_worker_dies(tmp_path):
    figures = simulate(tmp_path, 400, per_shard=20, workers=2)
    assert (figures.records, figures.lost, figures.doubled, figures.crashed) == (400, 0, 0, 0)
    assert (tmp_path / "killed").exists()
    assert len(figures.memory) == 10
