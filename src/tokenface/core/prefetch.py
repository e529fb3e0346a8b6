"""Prefetching iterator: items decoded in a thread while the network is busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def ahead(
    items: Iterable[T],
    count: int = 3,
    *,
    weight: Callable[[T], float] | None = None,
    heaviest: float = 0.0,
    name: str = "tokenface-frames",
) -> Iterator[T]:
    """The same items in the same order, at most `count` prepared before they are asked for.

    An error in the thread comes out here, at its place. Closing the iterator stops the thread.

    Args:
        weight: of an item; no further one is prepared while those that wait weigh more than `heaviest` together.
        name: of the thread.
    """
    ready: deque[tuple[Any, BaseException | None]] = deque()
    changed = threading.Condition()
    stopped = False

    def room() -> bool:
        light = weight is None or sum(weight(item) for item, _ in ready) <= heaviest
        return stopped or not ready or (len(ready) < count and light)

    def offer(item: object, error: BaseException | None = None) -> None:
        with changed:
            ready.append((item, error))
            changed.notify_all()

    def work() -> None:
        try:
            source = iter(items)
            while True:
                with changed:  # before the item is prepared: afterwards it is in memory
                    changed.wait_for(room)
                if stopped:
                    return
                item = next(source, _END)
                offer(item)
                if item is _END:
                    return
        except BaseException as error:  # it belongs to whoever asks for the items
            offer(_END, error)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: bool(ready))
                item, error = ready.popleft()
                changed.notify_all()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join(timeout=10)
