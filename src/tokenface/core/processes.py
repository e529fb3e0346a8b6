"""How worker processes are started: never by a bare fork, which inherits locked thread pools of OpenCV and OpenMP."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import BaseContext

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
