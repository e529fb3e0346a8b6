"""Worker processes: how they start, and items through them in order, a crashed worker costing one item."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

PRELOADED = ("torch", "cv2", "tokenface.data.shards.loader")
"""Imported once in the server from which workers are forked, before any thread exists."""


def process_context() -> BaseContext:
    """A server that forks clean workers where the system has it, fresh interpreters elsewhere."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        return context
    return multiprocessing.get_context("spawn")


def single_threaded() -> None:
    """Called in a worker process: the processes share the cores, so each computes in one thread."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def end_with_parent() -> None:
    """Called in a worker process: it ends with the process that started it, even if that one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="tokenface-orphan", daemon=True).start()


Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3
"""Items in flight for each worker."""

_make: Callable[[], Callable[[Any], Any]] | None = None
_function: Callable[[Any], Any] | None = None


class OrderedPool(Generic[Item, Result]):
    """Maps items in order.

    Args:
        make: called once per process, gives the function; must be picklable.
        workers: processes; 1 or less works in this process.
        crashed: the result for an item that kills its process.
        apart: a single worker gets a process too, so that its crash is survived.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Item], Result]],
        workers: int,
        crashed: Callable[[Item], Result],
        apart: bool = False,
    ) -> None:
        self._make, self._workers, self._crashed, self._apart = make, max(1, workers), crashed, apart
        self._pool: ProcessPoolExecutor | None = None
        self._own: Callable[[Item], Result] | None = None

    def map(self, items: Iterable[Item]) -> Iterator[Result]:
        if self._workers == 1 and not self._apart:
            self._own = self._own or self._make()
            yield from map(self._own, items)
            return
        waiting: deque[tuple[Item, Future]] = deque()
        rest = iter(items)
        while True:
            while len(waiting) < AHEAD * self._workers:
                item = next(rest, None)
                if item is None:
                    break
                waiting.append((item, self._submit(item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # every waiting item lost its process with this one: try this one alone, then go on with the others
                yield self._alone(item)
                waiting = deque((other, self._submit(other)) for other, _ in waiting)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _submit(self, item: Item) -> Future:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, process_context(), _begin, (self._make,))
        try:
            return self._pool.submit(_work, item)
        except BrokenProcessPool as error:
            failed: Future = Future()
            failed.set_exception(error)
            return failed

    def _alone(self, item: Item) -> Result:
        self.close()
        with ProcessPoolExecutor(1, process_context(), _begin, (self._make,)) as single:
            try:
                return single.submit(_work, item).result()
            except BrokenProcessPool:
                return self._crashed(item)


def _begin(make: Callable[[], Callable[[Any], Any]]) -> None:
    """In a new process, which ends with the one that started it, however that one ends."""
    global _make
    _make = make
    single_threaded()
    end_with_parent()


def _work(item: Any) -> Any:
    """The function is made for the first item, not in `_begin`, so that an error of making it reaches the caller."""
    global _function
    if _function is None:
        assert _make is not None
        _function = _make()
    return _function(item)
