"""Thread counts and waiting policy of the numeric libraries.

OpenMP's threads spin between two parallel loops. On an idle machine that saves microseconds; beside another process
it takes the core that the work needs, and everything is several times slower (`benchmarks/bench_threads.py`). The
libraries read these settings from the environment when they are loaded, so `tokenface/__init__.py` makes them first.
"""

from __future__ import annotations

import os
import sys

WAITING = {
    "OMP_WAIT_POLICY": "PASSIVE",  # GNU's OpenMP: torch on Linux
    "KMP_BLOCKTIME": "0",  # LLVM's and Intel's: torch on macOS and Windows
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "0",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "0",
}
USERS_CHOICE = (*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
"""Variables that say how threads wait: if one of them is set, the user has decided."""
NUMBERS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("OPENCV_FOR_THREADS_NUM", "VECLIB_MAXIMUM_THREADS"),
)

_given: int | None = None


def wait_asleep() -> None:
    """Let threads sleep while they wait, unless the user has chosen otherwise: in libraries loaded from now on, and in
    child processes."""
    if not any(name in os.environ for name in USERS_CHOICE):
        os.environ.update(WAITING)


def waits_asleep() -> bool:
    """Whether threads sleep while they wait; for libraries that are told by a call."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


def use_threads(number: int) -> None:
    """As many threads in every library, loaded or not, and in child processes. `configured_threads` heeds it."""
    global _given
    _given = number
    os.environ.update({name: str(number) for name in NUMBERS})
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(number)
    numba = sys.modules.get("numba")
    if numba is not None:  # takes no more than it was started with
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))


def given_threads() -> int:
    """What `use_threads` or the environment said; 0: nothing, all cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return _given or (int(said) if said.isdigit() else 0)


def working_threads() -> int:
    """Threads of our own loops: as many as torch's where it is loaded, else what was said, else one for each core."""
    count = getattr(sys.modules.get("torch"), "get_num_threads", None)  # it may be on its way in, in another thread
    if count is not None:
        return count()
    return given_threads() or os.cpu_count() or 1


def configured_threads(number: int) -> None:
    """A configuration's number of torch's threads, 0: as they are. The command line's `--threads` goes first."""
    if number and _given is None:
        import torch

        torch.set_num_threads(number)
