"""A real server on loopback under load, and under hostile uploads; bounded in time and count.

python -m benchmarks.bench_server [--minutes 5] [--clients 16] [--hostile 200] [--max-queue 8] [--max-seconds 30]
    [--no-page]

`benchmarks.server_memory` sends many small photos one after another and watches the server's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.hostile import Upload, form, uploads
from tokenface.jobs.examples import example_photos

HOST = "127.0.0.1"
HONEST = {400, 405, 406, 408, 411, 413, 415, 422, 429, 431, 501}
"""Statuses that refuse a bad request; 200 answers the harmless ones."""
MIXTURE = ("json", "json", "json", "json", "glb", "zip")
SAMPLE_EVERY = 5.0
GOOD = {"json": b'{\n "schema"', "glb": b"glTF", "zip": b"PK"}
"""What answers begin with."""


@dataclass
class Server:
    """A `tokenface serve` of our own. cold: seconds from the command to the first answer (page and model included)."""

    process: subprocess.Popen[str]
    port: int
    temporary: Path
    cold: float = 0.0

    @property
    def memory(self) -> float:
        """Resident megabytes, the pages of libraries that processes share included."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    @property
    def own_memory(self) -> float:
        """Megabytes that are this process's alone."""
        return psutil.Process(self.process.pid).memory_full_info().uss / 1e6

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def left_files(self) -> list[str]:
        """Files in the server's folder, apart from the example photos at its top."""
        return [str(path) for path in self.temporary.glob("tokenface-serve-*/*/**/*") if path.is_file()]


@contextlib.contextmanager
def server(photo: bytes, *options: str) -> Iterator[Server]:
    """Start, wait for the first answer to a photo, stop."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tokenface", "serve", "--port", "0", *options]
        begin = time.monotonic()
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TMPDIR": folder}
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r":(\d+)/", line)
            if found is None:
                raise SystemExit(f"the server did not start: {line} {log.read_text()}")
            started = Server(process, int(found[1]), Path(folder))
            while send(started.port, form("", photo), timeout=60)[0] != 200:
                time.sleep(0.1)
            started.cold = time.monotonic() - begin
            yield started
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            left = [path.name for path in Path(folder).iterdir() if path != log]
            print(f"after SIGTERM: exit code {process.returncode}, left in its temporary folder: {left or 'nothing'}")
            errors_told = re.findall(r"^\w[\w.]*(?:Error|Exception|Disconnect|Interrupt)\b.*", log.read_text(), re.M)
            print(f"server's log: {log.read_text().count('Traceback')} tracebacks {sorted(set(errors_told))[:5]}")
        finally:
            process.kill()
            process.wait()


def send(port: int, upload: Upload, path: str = "/v1/reconstruct", timeout: float = 200) -> tuple[int, bytes, str]:
    """One request over a socket of its own, byte by byte as given: status, body, Retry-After. Status 0: no answer."""
    length = len(upload.body) if upload.declared is None else upload.declared
    lines = [f"{upload.method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in upload.headers.items()]
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before we were through
            connection.sendall("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n")
            connection.sendall(upload.body)
            if upload.declared is not None:
                connection.shutdown(socket.SHUT_WR)
        try:
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read(), response.getheader("Retry-After", "")
        except (http.client.HTTPException, OSError):
            return 0, b"", ""


@dataclass
class Tally:
    """What the clients saw. seconds: of the answers with status 200, by format."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def client(port: int, photos: list[bytes], end: float, tally: Tally, seed: int) -> None:
    """Sends photos until the end; waits as long as it is told to when the server is busy."""
    chance = random.Random(seed)
    while time.monotonic() < end:
        wanted = chance.choice(MIXTURE)
        begin = time.monotonic()
        status, body, wait = send(port, form("", chance.choice(photos)), f"/v1/reconstruct?format={wanted}")
        spent = time.monotonic() - begin
        with tally.lock:
            tally.statuses[status] += 1
            if status == 200:
                tally.seconds.setdefault(wanted, []).append(spent)
                if not body.startswith(GOOD[wanted]):
                    tally.wrong.append(f"{wanted} began with {body[:20]!r}")
            elif status != 429 or not wait.isdigit():
                tally.wrong.append(f"{status} {body[:200]!r}")
        if status == 429:
            time.sleep(int(wait) * chance.uniform(0.5, 1.0))


def load(running: Server, photos: list[bytes], clients: int, seconds: float) -> None:
    """Clients for some time; prints what they saw and how the memory went."""
    tally, end = Tally(), time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(running.port, photos, end, tally, seed)) for seed in range(clients)
    ]
    begin, cpu = time.monotonic(), running.cpu
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < end:
        time.sleep(min(SAMPLE_EVERY, max(end - time.monotonic(), 0)))
        memory.append(running.memory)
    for thread in threads:
        thread.join(timeout=300)
    spent = time.monotonic() - begin
    done = tally.statuses[200]
    print(f"{clients} clients, {spent:.0f} s: statuses {dict(tally.statuses)}, {done / spent:.2f} answers/s")
    print(f"processor time per answer: {1000 * (running.cpu - cpu) / max(done, 1):.0f} ms")
    for wanted, values in sorted(tally.seconds.items()):
        print(f"  {wanted:4}: {quantiles(values)}")
    steps = [f"{value:.0f}" for value in memory[:: max(len(memory) // 10, 1)]]
    half = len(memory) // 2
    growth = sum(memory[half:]) / len(memory[half:]) - sum(memory[:half]) / max(half, 1) if half else 0.0
    print(f"resident memory, MB: {' '.join(steps)}; second half − first half {growth:+.0f}")
    print(f"wrong answers: {len(tally.wrong)} {tally.wrong[:3]}")


def quantiles(values: list[float]) -> str:
    ordered = sorted(values)
    pick = [ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in (0.5, 0.95, 1)]
    return f"{len(values)} answers, median {pick[0]:.2f} s, 95 % {pick[1]:.2f} s, longest {pick[2]:.2f} s"


def hostile(running: Server, photo: bytes, count: int) -> None:
    """Hostile uploads one after another; prints statuses and everything that should not be."""
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    slowest = (0.0, "")
    before, begin = running.memory, time.monotonic()
    for upload in uploads(count):
        start = time.monotonic()
        status, body, _ = send(running.port, upload)
        slowest = max(slowest, (time.monotonic() - start, upload.kind))
        statuses[status] += 1
        closed = status == 0 and (upload.kind.startswith("a header") or upload.declared is not None)
        if status != 200 and status not in HONEST and not closed:
            wrong.append(f"{upload.kind}: {status} {body[:200]!r}")
        if b"Traceback" in body or b'File "' in body or b"/work" in body:
            wrong.append(f"{upload.kind}: told too much: {body[:300]!r}")
        if running.process.poll() is not None:
            wrong.append(f"{upload.kind}: the server died")
            break
    print(f"{count} hostile uploads in {time.monotonic() - begin:.0f} s: statuses {dict(statuses)}")
    print(f"slowest {slowest[0]:.2f} s ({slowest[1]}); memory {before:.0f} → {running.memory:.0f} MB")
    print(f"files left: {running.left_files() or 'none'}")
    print(f"written elsewhere: {list(Path('/tmp').glob('tokenface-was-here*')) or 'nothing'}")
    print(f"a good photo afterwards: {send(running.port, form('', photo))[0]}")
    print(f"wrong: {len(wrong)}")
    for line in wrong[:20]:
        print("  ", line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--max-queue", type=int, default=8)
    parser.add_argument("--max-seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    originals = [photo for _, photo in sorted(example_photos().items())]
    photos = [*originals, *(enlarged(photo, 1600) for photo in originals)]
    options = ["--max-queue", str(arguments.max_queue), "--max-seconds", str(arguments.max_seconds)]
    options += ["--no-page"] if arguments.no_page else []
    with server(originals[0], *options) as running:
        print(f"cold start to first answer: {running.cold:.1f} s, {running.cpu:.1f} s of processor time")
        print(f"memory after the first answer: {running.memory:.0f} MB, {running.own_memory:.0f} of it unshared")
        alone = []
        for _ in range(10):
            begin = time.monotonic()
            status, body, _ = send(running.port, form("", originals[0]))
            alone.append(time.monotonic() - begin)
            assert status == 200
            assert json.loads(body)["faces"]
        print(f"one client, JSON: {quantiles(alone)}")
        if arguments.hostile:
            hostile(running, originals[0], arguments.hostile)
        if arguments.minutes:
            load(running, photos, arguments.clients, 60 * arguments.minutes)


def enlarged(photo: bytes, side: int) -> bytes:
    """The photo with this longer side, as JPEG."""
    with Image.open(io.BytesIO(photo)) as image:
        factor = side / max(image.size)
        buffer = io.BytesIO()
        image.convert("RGB").resize([round(length * factor) for length in image.size]).save(buffer, format="JPEG")
        return buffer.getvalue()


if __name__ == "__main__":
    main()
