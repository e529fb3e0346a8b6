"""One thread that does the heavy work, photos in batches, behind a queue of limited length."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tokenface.errors import TokenFaceError
from tokenface.images.loading import ImageItem
from tokenface.inference.reconstruct import Reconstructor
from tokenface.inference.result import PhotoResult

T = TypeVar("T")

BATCH_PHOTOS = 4
"""Photos that wait are done together, up to so many."""
MEMORY = 0.3
"""Share of the newest job in the running mean of how long a job takes."""
PROMISE = 0.6
"""Whoever would wait longer than this share of the time that a request may take is refused at once."""

logger = logging.getLogger("tokenface")


class Busy(TokenFaceError):
    """The queue is full. retry_after: whole seconds until there is likely to be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class TooLate(TokenFaceError):
    """The answer did not come within the seconds that a request may take."""


async def answer(future: Future[T], seconds: float) -> T:
    """A worker's answer, for coroutines. Who stops waiting takes the job out of the queue, if it has not begun.

    Raises:
        Busy: its turn did not come in time.  TooLate: the work took too long.
    """
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), max(seconds, 0.01))
    except TimeoutError:
        if future.cancelled():  # it never began: too many others
            raise Busy(max(1, round(seconds))) from None
        raise TooLate("no answer in time; try again, or send a smaller photo") from None


@dataclass
class _Job:
    """run: what to do; for a photo it takes the result.  deadline: `time.monotonic()` after which nobody waits."""

    future: Future[Any]
    deadline: float
    run: Callable[..., Any]
    photo: bytes | None = None


@dataclass
class Worker:
    """Jobs are done one after another, in order; photos that wait next to each other go through the network together.

    load: makes the model; called in the thread, once.  queue: jobs that may wait.
    pixels, faces: limits of a photo.  watch: told the number of photos of every batch.
    """

    load: Callable[[], Reconstructor]
    queue: int
    seconds: float
    pixels: int
    faces: int
    watch: Callable[[int], object] = lambda photos: None
    name: str = "tokenface-worker"
    _waiting: deque[_Job] = field(default_factory=deque, init=False)
    _wake: threading.Condition = field(default_factory=threading.Condition, init=False)
    _closed: bool = field(default=False, init=False)
    _in_hand: int = field(default=0, init=False)
    _job_seconds: float = field(default=0.5, init=False)
    _model: Reconstructor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def model(self) -> Reconstructor:
        """The model; for use inside of jobs (the first use loads it)."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def photo(self, data: bytes, then: Callable[[PhotoResult], T]) -> Future[T]:
        """The faces of an encoded picture, and what `then` makes of them (the result may hold an error).

        Raises:
            Busy: the queue is full, or so long that the answer would come too late.
        """
        return self._put(_Job(Future(), time.monotonic() + self.seconds, then, data))

    def call(self, run: Callable[[], T]) -> Future[T]:
        """Any other work.

        Raises:
            Busy: as `photo`.
        """
        return self._put(_Job(Future(), time.monotonic() + self.seconds, run))

    def close(self) -> None:
        """Finish the job in hand, refuse the others."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=10)
        while self._waiting:
            self._waiting.popleft().future.cancel()

    def _put(self, job: _Job) -> Future[Any]:
        with self._wake:
            waiting = len(self._waiting)
            expected = (waiting + self._in_hand) * self._job_seconds
            if waiting >= self.queue or expected > PROMISE * self.seconds or self._closed:
                raise Busy(max(1, round(min(expected, self.seconds))))
            self._waiting.append(job)
            self._wake.notify()
        return job.future

    def _next(self) -> list[_Job]:
        """Waits for work; nothing when the worker is closed."""
        with self._wake:
            self._in_hand = 0
            self._wake.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            jobs = [self._waiting.popleft()]
            if jobs[0].photo is not None:
                while self._waiting and self._waiting[0].photo is not None and len(jobs) < BATCH_PHOTOS:
                    jobs.append(self._waiting.popleft())
            self._in_hand = len(jobs)
            return jobs

    def _work(self) -> None:
        while jobs := self._next():
            begin = time.monotonic()
            alive = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            late = [job for job in alive if job.deadline < begin]
            for job in late:
                _fail(job, Busy(max(1, round(self.seconds))))
            alive = [job for job in alive if job.deadline >= begin]
            if not alive:
                continue
            try:
                self._do(alive)
            except Exception as error:  # whatever happens to one request, the next one is served
                for job in alive:
                    _fail(job, error)
            spent = (time.monotonic() - begin) / len(alive)
            self._job_seconds += MEMORY * (spent - self._job_seconds)

    def _do(self, jobs: list[_Job]) -> None:
        if jobs[0].photo is None:
            _answer(jobs[0])
            return
        self.watch(len(jobs))
        items = [ImageItem("photo", job.photo or b"") for job in jobs]
        results = self.model.iterate(items, max_faces=self.faces, max_pixels=self.pixels)
        for job, result in zip(jobs, results, strict=True):
            _answer(job, result)


def _answer(job: _Job, *given: Any) -> None:
    try:
        job.future.set_result(job.run(*given))
    except Exception as error:
        _fail(job, error)


def _fail(job: _Job, error: Exception) -> None:
    if job.future.done():
        return
    if not isinstance(error, TokenFaceError):
        logger.error("a request failed", exc_info=error)
    job.future.set_exception(error)
