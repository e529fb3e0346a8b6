"""The benchmark that sends a server many requests: what it counts, tells and holds for wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from benchmarks.bench_server import GOOD
from benchmarks.server_memory import slope, watch


@dataclass
class Growing:
    """A server that keeps a megabyte of every request."""

    asked: int = 0

    @property
    def memory(self) -> float:
        return 1000.0 + self.asked

    own_memory, cpu = memory, memory


def sent(requests: int, every: int, wrong: dict[int, tuple[int, bytes]]) -> tuple[Counter[str], list, list[str]]:
    running, lines, wanted = Growing(), [], []

    def ask(number: int, form: str) -> tuple[int, bytes]:
        running.asked += 1
        wanted.append(form)
        return wrong.get(number, (200, GOOD[form] + b" and so on"))

    return watch(running, ask, requests, every, lines.append), lines, wanted


def test_every_so_many_requests_a_line_is_told() -> None:
    seen, lines, wanted = sent(30, 12, {})
    assert Counter(wanted) == {"json": 20, "glb": 5, "zip": 5}
    assert [line["requests"] for line in lines] == [0, 12, 24, 30]
    assert [line["resident_mb"] for line in lines] == [1000, 1012, 1024, 1030]
    assert (seen["right"], lines[-1]["wrong"]) == (30, 0)
    assert slope(lines) is None
    assert slope(sent(30, 5, {})[1]) == pytest.approx(1000)


def test_wrong_answers_are_counted_by_what_they_were() -> None:
    seen, lines, _ = sent(12, 100, {3: (503, b"busy"), 4: (200, b"no GLB")})
    assert seen == {"right": 10, "json: 503 b'busy'": 1, "glb: 200 b'no GLB'": 1}
    assert lines[-1]["wrong"] == 2


def test_a_server_that_does_not_answer_any_more_ends_the_run() -> None:
    seen, lines, wanted = sent(100, 10, {12: (0, b"")})
    assert len(wanted) == 13
    assert seen["right"] == 12
    assert [line["requests"] for line in lines] == [0, 10, 13]
