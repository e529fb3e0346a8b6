"""Ordered map over Ray actors by Ray Data (extra `cluster`), tolerant to dying workers."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from tokenface.core.pool import OrderedPool
from tokenface.errors import ConfigError, TokenFaceError

Item = TypeVar("Item")
Result = TypeVar("Result")
LARGEST_BLOCK = 32
BLOCKS_PER_ACTOR = 4
"""At least so many, where there are enough items, so that no actor waits long for the last one."""
LOCAL_STORE = 256 << 20
"""Bytes of shared memory of a Ray that is started on this machine alone."""


class RayPool(Generic[Item, Result]):
    """Maps items in order, as `OrderedPool` does. Every machine of the cluster must see the same files and have
    tokenface installed.

    An item that kills its process costs that item; a lost actor or machine costs time, for Ray does its blocks again.

    Args:
        make: called once per actor, gives the function; must be picklable.
        workers: actors, one CPU each; None: as many as the cluster has CPUs.
        crashed: the result for an item that kills its process; must be picklable.
        address: of the cluster (`host:6379`, `ray://host:10001`, `auto`); "local" starts one on this machine.
        largest_block: items that travel together, and are done again when their actor or its machine is lost; 1 where
            an item is much work.
    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Item], Result]],
        workers: int | None,
        crashed: Callable[[Item], Result],
        address: str,
        largest_block: int = LARGEST_BLOCK,
    ) -> None:
        self._make, self._crashed, self._largest_block = make, crashed, largest_block
        self._connected_here = _connect(address, workers)
        import ray

        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.workers = cpus if workers is None else min(workers, cpus)

    def map(self, items: Iterable[Item]) -> Iterator[Result]:
        """Raises ConfigError when the cluster is lost as a whole, and what `make` raises for users to mend."""
        import ray

        rows = list(items)
        if not rows:
            return
        try:
            for row in self._results(rows).iter_rows():
                if isinstance(row["result"], TokenFaceError):
                    raise row["result"]
                yield row["result"]
        except (ray.exceptions.RayError, ConnectionError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"the Ray cluster was lost ({text[:150]}); the same command goes on") from error

    def close(self) -> None:
        import ray

        if self._connected_here:
            ray.shutdown()
            self._connected_here = False

    def _results(self, items: list[Item]) -> Any:
        """A lazy data set with one row per item."""
        from ray.data import ActorPoolStrategy, DataContext, from_items

        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        block = max(1, min(self._largest_block, len(items) // (BLOCKS_PER_ACTOR * self.workers)))
        rows = [{"item": item} for item in items]
        with DataContext.current(context):
            return from_items(rows, override_num_blocks=-(-len(rows) // block)).map(
                _Worker,  # type: ignore[arg-type]  # a class, made once per actor
                fn_constructor_args=(self._make, self._crashed),
                compute=ActorPoolStrategy(size=self.workers),
                num_cpus=1,
            )


class _Worker:
    """What an actor holds: a process of its own for the items, so that one that crashes is not tried for ever."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], crashed: Callable[[Any], Any]) -> None:
        self._pool: OrderedPool[Any, Any] = OrderedPool(make, 1, crashed, apart=True)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            (result,) = self._pool.map([row["item"]])
        except TokenFaceError as error:
            return {"result": error}  # as a value: Ray would wrap it into a page of text
        return {"result": result}


def _connect(address: str, workers: int | None) -> bool:
    """Whether a connection was made here; one that the process has already is used as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it warns of is Ray Data's own doing
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("--ray needs Ray Data; pip install 'tokenface[cluster]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == "local":
            ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=LOCAL_STORE, **quiet)
        else:
            _probe(address)
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())[:150]
        raise ConfigError(
            f"no Ray cluster at '{address}' ({text}); start one with 'ray start --head', or use --ray local"
        ) from error
    return True


def _probe(address: str) -> None:
    """Ray itself tries for minutes. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
