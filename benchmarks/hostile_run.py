"""Hostile files at every door, and hostile requests at the server's: what came of them, by entrance.

python -m benchmarks.hostile_run [--count 1000] [--seed 0] [--entrance NAME …]

Every entrance has a process of its own with bounded memory; each file has seconds. Good answers are: read, or refused
with one line. Anything else is printed with its number, from which it can be made again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile import uploads
from benchmarks.hostile_doors import DOORS
from benchmarks.hostile_files import MARKER, case

SECONDS = 30
"""For one file."""
MEMORY = 1_500
"""Megabytes by which one file may raise the peak."""
ADDRESS_SPACE = 24 << 30
SERVER = "server"


def main() -> int:
    """Print a line for each entrance; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--entrance", nargs="*", choices=[*DOORS, SERVER])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_server(arguments.count) if arguments.one == SERVER else _knock(arguments.one, arguments)))
        return 0
    chosen, bad = arguments.entrance or [*DOORS, SERVER], 0
    for entrance in chosen:
        found = _in_a_process(entrance, -(-arguments.count // len(chosen)), arguments.seed)
        bad += len(found["bad"])
        print(f"{entrance}: {found['counts']}, slowest {found['slowest']:.1f} s, +{found['memory']:.0f} MB", flush=True)
        for line in found["bad"]:
            print("   ", line, flush=True)
    return int(bad > 0)


def _in_a_process(entrance: str, count: int, seed: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.hostile_run", "--one", entrance]
    answer = subprocess.run([*command, "--count", str(count), "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        return {"counts": {}, "bad": [f"the process ended with {answer.returncode}"], "slowest": 0.0, "memory": 0.0}
    return json.loads(answer.stdout.splitlines()[-1])


def _knock(entrance: str, arguments: argparse.Namespace) -> dict:
    """One entrance's files, one after the other."""
    from tokenface.errors import TokenFaceError

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    logging.disable()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    bad: list[str] = []
    slowest = most = 0.0
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as place:
        good, read = DOORS[entrance](Path(made))
        for name, data in good.items():  # the good ones are good
            folder = Path(place) / "good"
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
            with contextlib.suppress(TokenFaceError):
                read(folder / name)
        before = _peak()
        for number in range(arguments.count):
            folder = Path(place) / "case"
            folder.mkdir()
            os.chdir(folder)
            made_case = case(entrance, good, folder, number, arguments.seed)
            begin, trouble = time.monotonic(), ""
            try:
                with _alarm():
                    read(made_case.path)
                counts["read"] += 1
            except TokenFaceError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    trouble = f"more than one line: {error}"
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                trouble = f"{type(error).__name__}: {str(error)[:150]} at {Path(where.filename).name}:{where.lineno}"
            slowest = max(slowest, time.monotonic() - begin)
            if _peak() - before > MEMORY and not trouble:
                trouble = f"{_peak() - before:.0f} MB more"
            most, before = max(most, _peak() - before), _peak()
            if (folder / MARKER).exists() or Path(place, "tokenface-was-here").exists():
                trouble = "something in it ran, or was written elsewhere"
            if trouble:
                counts["bad"] += 1
                bad.append(f"{number} ({made_case.kind}): {trouble}")
            os.chdir(place)
            shutil.rmtree(folder)
    return {"counts": dict(counts), "bad": bad, "slowest": slowest, "memory": most}


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _server(count: int) -> dict:
    """Half of the requests go to the API, half to the page's own routes."""
    from starlette.testclient import TestClient

    from benchmarks.hostile_requests import page_requests
    from tokenface.app.folder import work_folder
    from tokenface.app.limits import Limits
    from tokenface.app.server import create_app
    from tokenface.model import Reconstructor

    logging.disable()
    warnings.simplefilter("ignore")
    model = Reconstructor.load(device="cpu")
    counts: Counter[str] = Counter()
    bad: list[str] = []
    slowest = 0.0
    begin_memory = _peak()
    with work_folder() as folder:
        app = create_app(lambda: model, lambda: model, folder, Limits(seconds=60))
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            client.get("/")
            requests = [(one.kind, one.method, "/v1/reconstruct", one.body, one.headers) for one in uploads(count // 2)]
            requests += page_requests(client, count - count // 2)
            for number, (kind, method, path, body, headers) in enumerate(requests):
                begin = time.monotonic()
                answer = client.request(method, path, content=body, headers=headers)
                slowest = max(slowest, time.monotonic() - begin)
                counts[str(answer.status_code)] += 1
                one_form = answer.status_code < 400 or "error" in _json(answer.content)
                if answer.status_code >= 500 or not one_form or "Traceback" in answer.text or "root:" in answer.text:
                    bad.append(f"{number} ({kind}): {answer.status_code} {answer.text[:100]!r}")
            if client.get("/healthz").status_code != 200:
                bad.append("the server does not answer any more")
    return {"counts": dict(counts), "bad": bad, "slowest": slowest, "memory": _peak() - begin_memory}


def _json(content: bytes) -> dict:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
