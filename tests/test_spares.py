"""Objects that are lent to one thread at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenface.core.spares import Spares


def test_who_comes_later_gets_the_same_and_who_comes_meanwhile_another():
    spares = Spares(object)
    with spares.one() as first, spares.one() as second:
        assert first is not second
    with spares.one() as again:
        assert again in (first, second)


def test_many_threads_never_hold_one_together_and_make_no_more_than_were_needed():
    made, held, together = [], set(), []
    gate = threading.Barrier(4)

    def make() -> object:
        made.append(object())
        return made[-1]

    spares = Spares(make)

    def work(_: int) -> None:
        with spares.one() as item:
            if id(item) in held:
                together.append(item)
            held.add(id(item))
            gate.wait(timeout=30)  # all four hold theirs
            held.discard(id(item))
            gate.wait(timeout=30)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    assert together == []
    assert len(made) == 4


def test_what_a_failed_block_held_is_lent_again():
    spares = Spares(object)
    with pytest.raises(RuntimeError), spares.one() as first:
        raise RuntimeError
    with spares.one() as again:
        assert again is first
