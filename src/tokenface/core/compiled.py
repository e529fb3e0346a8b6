"""Numba compilation, with loops parallel over the images of a batch.

Threads come from a pool of our own rather than from Numba's `prange`: its OpenMP layer aborts a process that is
forked afterwards (data loaders do that) and its built-in layer aborts when two threads call it at once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba import njit

from tokenface.core.threads import working_threads

_pool: ThreadPoolExecutor | None = None
_pool_key = (0, 0)


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a loop that releases the interpreter lock; the machine code is kept on disk where that is possible."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable folder for the cache: compile in every process
        return njit(nogil=True)(function)


def run_over_batch(loop: Callable[..., None], batch: int, *arguments, threads: int | None = None) -> None:
    """Call `loop(first, last, *arguments)` on slices of the batch; None: `working_threads`."""
    threads = min(batch, threads or working_threads())
    if threads <= 1:
        loop(0, batch, *arguments)
        return
    bounds = [batch * k // threads for k in range(threads + 1)]
    jobs = [_threads(threads).submit(loop, a, b, *arguments) for a, b in itertools.pairwise(bounds)]
    for job in jobs:
        job.result()


def _threads(count: int) -> ThreadPoolExecutor:
    """The pool of this process: a forked child must not use its parent's threads."""
    global _pool, _pool_key
    if _pool is None or _pool_key[0] != os.getpid() or _pool_key[1] < count:
        _pool, _pool_key = ThreadPoolExecutor(count, thread_name_prefix="render"), (os.getpid(), count)
    return _pool
