"""What threads cost that spin while they wait, on an idle machine and beside processes that want its cores.

python benchmarks/bench_threads.py [--weights NAME] [--busy 2] [--repeats 20]

Each figure is the median wall time of one call, and the processor time of all threads, in a process of its own with as
many threads as cores. "asleep" is TokenFace's default; "spinning" is the libraries' own (GOMP_SPINCOUNT=300000, which
is what GNU's OpenMP does when nothing is set). Busy processes are endless loops of the same priority.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack

from tokenface.core.threads import NUMBERS, USERS_CHOICE

POLICIES = {"spinning": {"GOMP_SPINCOUNT": "300000"}, "asleep": {}}
MEASURE = """
import json, statistics, sys, time
import tokenface, torch
from benchmarks.bench_detector import portrait
weights, runtime, repeats = sys.argv[1] or None, sys.argv[2], int(sys.argv[3])
model, photo = tokenface.load(weights, "cpu", runtime), portrait()
crops = torch.rand(8, 3, model.crop_size, model.crop_size, generator=torch.Generator().manual_seed(0))
def network():
    with torch.inference_mode():
        model.network(crops)
def figures(call):
    call()
    wall, work = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        wall.append(time.perf_counter() - start)
    return [1000 * statistics.median(wall), 1000 * (time.process_time() - work) / repeats]
print(json.dumps({"network, batch 8": figures(network), "photo": figures(lambda: model.reconstruct(photo))}))
"""


def measure(weights: str, runtime: str, policy: str, repeats: int) -> dict[str, tuple[float, float]]:
    """(wall, processor) milliseconds by what was measured."""
    own = {name: value for name, value in os.environ.items() if name not in (*USERS_CHOICE, *NUMBERS)}
    command = [sys.executable, "-c", MEASURE, weights, runtime, str(repeats)]
    told = subprocess.run(command, env=own | POLICIES[policy], capture_output=True, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="")
    parser.add_argument("--busy", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--runtime", default="torch,onnx,openvino")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    for runtime in arguments.runtime.split(","):
        for busy in (0, arguments.busy):
            for policy in POLICIES:
                with ExitStack() as stack:
                    for _ in range(busy):
                        rival = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                        stack.callback(rival.kill)
                    for name, (wall, work) in measure(arguments.weights, runtime, policy, arguments.repeats).items():
                        print(
                            f"{runtime:9} beside {busy} busy, {policy:9} {name:17} "
                            f"{wall:8.0f} ms, {work:8.0f} ms of processors",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
