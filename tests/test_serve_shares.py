"""Turns and shares of the server: clients, connections, folders that killed servers left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from test_serve_worker import Held, model, png  # noqa: F401

from tokenface.app import connections
from tokenface.app.folder import PREFIX, work_folder
from tokenface.app.shares import ClientShare
from tokenface.app.worker import Busy, TooLate, answer
from tokenface.model import Reconstructor


def test_one_client_with_sixty_requests_does_not_take_all(model: Reconstructor) -> None:  # noqa: F811
    """It may fill the queue while nobody else comes; then its last job makes room, and clients take turns."""
    held = Held(model, queue=4, seconds=100.0)
    done: list[str] = []

    def job(name: str, client: str) -> Future[None]:
        return held.worker.call(lambda: done.append(name), client)

    greedy = [job(f"greedy {number}", "greedy") for number in range(4)]
    for _ in range(56):
        with pytest.raises(Busy):
            job("one more", "greedy")
    late = [job("first of another", "a"), job("first of a third", "b")]
    held.release()
    for future in (*greedy[:2], *late):
        future.result(20)
    for future in greedy[2:]:
        with pytest.raises(Busy):
            future.result(20)
    assert done == ["greedy 0", "first of another", "first of a third", "greedy 1"]
    held.worker.close()


def test_a_job_of_a_client_that_left_is_not_begun(model: Reconstructor) -> None:  # noqa: F811
    held = Held(model)
    done: list[str] = []
    future = held.worker.call(lambda: done.append("late"), "a")

    async def left() -> bool:
        return True

    with pytest.raises(TooLate, match="nobody waits"):
        asyncio.run(answer(future, 60, left))
    held.release()
    held.worker.call(lambda: done.append("next")).result(20)
    assert done == ["next"]
    held.worker.close()


def test_requests_at_a_time_are_shared() -> None:
    go, inside = threading.Event(), threading.Semaphore(0)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        inside.release()
        await asyncio.to_thread(go.wait, 20)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    share = ClientShare(slow, total=3, each=2)

    def get(address: str) -> int:
        return TestClient(share, client=(address, 1)).get("/").status_code

    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(get("1.1.1.1"))) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert inside.acquire(timeout=20)
    assert get("1.1.1.1") == 429
    other = threading.Thread(target=lambda: statuses.append(get("2.2.2.2")))
    other.start()
    assert inside.acquire(timeout=20)
    assert get("3.3.3.3") == 503
    go.set()
    for thread in (*threads, other):
        thread.join(20)
    assert statuses == [200, 200, 200]
    assert get("1.1.1.1") == 200  # what is over counts no more


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server of the real protocol, with one route."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, port=0, http=connections.PatientProtocol, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


def asked(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text)
        connection.settimeout(20)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


GOOD = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_three_hundred_half_sent_headers_do_not_stop_the_server(port: int) -> None:
    half = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(300)]
    for connection in half:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
    try:
        assert asked(port, GOOD).startswith(b"HTTP/1.1 200")
    finally:
        for connection in half:
            connection.close()


def test_a_header_must_end_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one and the next one on the same connection."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    for before in (b"", GOOD.replace(b"Connection: close\r\n", b"")):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(before)
            if before:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
            connection.settimeout(20)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass


def test_what_is_no_http_is_refused_in_the_same_form(port: int) -> None:
    head, _, body = asked(port, b"\x16\x03\x01\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert body == b'{"error": "this is no HTTP/1.1 request that can be understood"}'


def test_folders_of_killed_servers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import sys, time; from tokenface.app.folder import work_folder\n"
        "with work_folder() as folder:\n"
        "    (folder.new() / 'photo.png').write_bytes(b'x'); print(folder.root, flush=True); time.sleep(100)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    servers = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    killed, alive = (Path(server.stdout.readline().strip()) for server in servers)  # type: ignore[union-attr]
    servers[0].send_signal(signal.SIGKILL)
    servers[0].wait()
    (tmp_path / f"{PREFIX}link").symlink_to("/")
    recent = tmp_path / f"{PREFIX}being-made"
    recent.mkdir()
    try:
        with work_folder() as own:
            assert not killed.exists()
            assert alive.exists()
            assert recent.exists()
            assert own.root.exists()
    finally:
        servers[1].kill()
        servers[1].wait()
    old = time.time() - 2 * 3600
    os.utime(recent, (old, old))
    with work_folder():
        assert not alive.exists()
        assert not recent.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}link"]
