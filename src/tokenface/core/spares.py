"""Spare objects: what only one thread at a time may use, kept for the next that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Spares(Generic[T]):
    """Objects lent to one thread at a time; there are never more than were in use at once.

    One per thread would be made anew for every short-lived thread, and each call that looks ahead starts one.

    Args:
        make: makes one more.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._free: list[T] = []

    @contextmanager
    def one(self) -> Iterator[T]:
        """A spare one, or a new one, for the block."""
        try:
            lent = self._free.pop()  # one step for all threads, as `append` is
        except IndexError:
            lent = self._make()
        try:
            yield lent
        finally:
            self._free.append(lent)
