"""Worker thread with a bounded queue: photos are reconstructed in batches."""

from __future__ import annotations

import asyncio
import bisect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tokenface.errors import TokenFaceError, plain_words
from tokenface.images.loading import ENCODED, EncodedItem
from tokenface.inference.result import PhotoResult
from tokenface.model import Reconstructor

T = TypeVar("T")

BATCH_PHOTOS = 4
"""Photos that wait are done together, up to so many."""
MEMORY = 0.3
"""Share of the newest job in the running mean of how long a job takes."""
CLOSING = 60
"""Seconds that the end of a server waits for the job in hand."""
LOOK_EVERY = 0.5
"""Seconds between two looks whether the client is still there."""
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


async def _stays() -> bool:
    return False


async def answer(future: Future[T], seconds: float, left: Callable[[], Awaitable[bool]] = _stays) -> T:
    """A worker's answer, for coroutines. Who stops waiting takes the job out of the queue, if it has not begun.

    Args:
        left: asked now and then whether the client is gone.
    Raises:
        Busy: its turn did not come in time.  TooLate: the work took too long, or nobody waits for it any more.
    """
    waiting, end = asyncio.wrap_future(future), time.monotonic() + max(seconds, 0.01)
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=max(0.0, min(LOOK_EVERY, end - time.monotonic())))
            if not waiting.done() and await left():
                raise TooLate("nobody waits for the answer any more")
            if not waiting.done() and time.monotonic() >= end:
                if future.cancel():  # it never began: too many others
                    raise Busy(max(1, round(seconds)))
                raise TooLate("no answer in time; try again, or send a smaller photo")
        return waiting.result()
    finally:
        future.cancel()
        waiting.cancel()


@dataclass
class _Job:
    """run: what to do; for a photo it takes the result.  deadline: `time.monotonic()` after which nobody waits.
    client: who asks.  turn: its place among the jobs of that client, counted on from the ones that are done."""

    future: Future[Any]
    deadline: float
    run: Callable[..., Any]
    client: str
    photo: EncodedItem | None = None
    turn: int = 0


@dataclass
class Worker:
    """Jobs are done one after another; photos that wait next to each other go through the network together.

    Clients take turns, each in its own order: the first job of a second client comes before the second of the first.
    One client may fill the queue; when another comes, the first one's last job makes room. What `warm_up` is given is
    done while nothing waits.

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
    _waiting: list[_Job] = field(default_factory=list, init=False)  # in the order in which they will be done
    _turn: int = field(default=0, init=False)
    _wake: threading.Condition = field(default_factory=threading.Condition, init=False)
    _closed: bool = field(default=False, init=False)
    _in_hand: int = field(default=0, init=False)
    _job_seconds: float = field(default=0.5, init=False)
    _model: Reconstructor | None = field(default=None, init=False)
    _steps: Iterator[object] | None = field(default=None, init=False)  # of the warm-up that are left

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether it was told to end; long jobs look at it."""
        return self._closed

    @property
    def warm(self) -> bool:
        """Whether nothing is left of the warm-up."""
        return self._steps is None

    def warm_up(self, steps: Iterator[object]) -> None:
        """Do this step by step while nothing waits: whoever comes in between waits for one step at most. It counts
        nowhere; an error ends it, in one line of the log. `close` leaves undone what has not begun."""
        with self._wake:
            self._steps = steps
            self._wake.notify()

    @property
    def model(self) -> Reconstructor:
        """The model; for use inside of jobs (the first use loads it)."""
        if self._model is None:
            self._model = self.load()
        return self._model

    def photo(
        self, data: bytes, then: Callable[[PhotoResult], T], client: str = "", called: str = ENCODED
    ) -> Future[T]:
        """The faces of an encoded picture, and what `then` makes of them (the result may hold an error).

        Args:
            called: what errors call the picture.
        Raises:
            Busy: the queue is full, or so long that the answer would come too late.
        """
        item = EncodedItem("photo", data, called)
        return self._put(_Job(Future(), time.monotonic() + self.seconds, then, client, item))

    def call(self, run: Callable[[], T], client: str = "") -> Future[T]:
        """Any other work.

        Raises:
            Busy: as `photo`.
        """
        return self._put(_Job(Future(), time.monotonic() + self.seconds, run, client))

    def close(self) -> None:
        """Finish the job or the step of the warm-up in hand, for a minute at most, and refuse the others."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=CLOSING)
        while self._waiting:
            self._waiting.pop().future.cancel()

    def _put(self, job: _Job) -> Future[Any]:
        with self._wake:
            self._waiting = [other for other in self._waiting if not other.future.cancelled()]
            job.turn = max([self._turn, *(other.turn for other in self._waiting if other.client == job.client)]) + 1
            place = bisect.bisect_right(self._waiting, job.turn, key=lambda other: other.turn)
            expected = (place + self._in_hand) * self._job_seconds
            full = len(self._waiting) >= self.queue
            if (full and place == len(self._waiting)) or expected > PROMISE * self.seconds or self._closed:
                raise Busy(max(1, round(min(expected, self.seconds))))
            if full:  # the last one belongs to a client that has more waiting than this one
                last = self._waiting.pop()
                if last.future.set_running_or_notify_cancel():
                    _fail(last, Busy(max(1, round(min(expected, self.seconds)))))
            self._waiting.insert(place, job)
            self._wake.notify()
        return job.future

    def _next(self) -> list[_Job] | None:
        """Waits for work: no jobs where a step of the warm-up is to be done, None when the worker is closed."""
        with self._wake:
            self._in_hand = 0
            self._wake.wait_for(lambda: self._waiting or self._closed or self._steps is not None)
            if self._closed:
                return None
            if not self._waiting:
                self._in_hand = 1
                return []
            jobs = [self._waiting.pop(0)]
            if jobs[0].photo is not None:
                while self._waiting and self._waiting[0].photo is not None and len(jobs) < BATCH_PHOTOS:
                    jobs.append(self._waiting.pop(0))
            self._in_hand, self._turn = len(jobs), jobs[-1].turn
            return jobs

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            if not jobs:
                self._warm_on()
                continue
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

    def _warm_on(self) -> None:
        done = object()
        try:
            if self._steps is not None and next(self._steps, done) is not done:
                return
        except Exception as error:
            said = plain_words(error) if isinstance(error, TokenFaceError) else repr(error)
            logger.warning("the warm-up ended early, the first photo will take longer: %s", said)
        self._steps = None

    def _do(self, jobs: list[_Job]) -> None:
        if jobs[0].photo is None:
            _answer(jobs[0])
            return
        self.watch(len(jobs))
        items = [job.photo for job in jobs]
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
