"""An iterator that works ahead in a thread: frames are decoded while the network is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T], count: int = 3) -> Iterator[T]:
    """The same items in the same order, at most `count` prepared before they are asked for.

    An error in the thread comes out here, at its place. Closing the iterator stops the thread.
    """
    ready: queue.Queue = queue.Queue(maxsize=count)
    stopped = threading.Event()

    def offer(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((item, None)):
                    return
            offer(_END)
        except BaseException as error:  # it belongs to whoever asks for the items
            offer((None, error))

    thread = threading.Thread(target=work, name="tokenface-frames", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not _END:
            item, error = entry
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join(timeout=10)
