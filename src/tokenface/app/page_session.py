"""Session context of the page's callbacks: its files, and whether its client still waits."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TypeVar

import gradio as gr

from tokenface.app.page_gate import SESSION
from tokenface.app.visitors import Session
from tokenface.app.worker import LOOK_EVERY

T = TypeVar("T")


def session_of(request: gr.Request) -> Session:
    """The session that the gate has found for a request."""
    session = None if request.request is None else request.request.scope.get(SESSION)
    if not isinstance(session, Session):  # asked by a way that leads round the gate
        raise gr.Error("reload this page", print_exception=False)
    return session


def owned(path: str, session: Session) -> Path:
    """The file of a component, which must be the visitor's own; the gate asks the same before gradio sees it."""
    if not session.visitor.owns(path):
        raise gr.Error("this file is not yours, or gone; choose it again", print_exception=False)
    return Path(path)


def copied(path: Path, session: Session) -> str:
    """A file of the server's, given to a visitor."""
    return str(shutil.copyfile(path, session.visitor.new() / path.name))


def example_of(path: Path) -> Callable[[gr.Request], str]:
    """The function of a button that chooses an example photo."""

    def choose(request: gr.Request) -> str:
        return copied(path, session_of(request))

    return choose


def waited(future: Future[T], seconds: float, session: Session) -> T:
    """A worker's answer; a job that has not begun is given up when the session ends or the time is over.

    Raises:
        TimeoutError: neither in time, or nobody waits any more.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return future.result(max(0.0, min(LOOK_EVERY, end - time.monotonic())))
        except CancelledError:  # the server ends
            raise TimeoutError from None
        except FutureTimeout:
            if future.done():
                raise  # of the job's own
            if session.gone.is_set() or time.monotonic() >= end:
                future.cancel()
                raise TimeoutError from None
