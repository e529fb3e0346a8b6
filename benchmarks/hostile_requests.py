"""Requests that mean no good, for the page's own routes: files of others, odd bodies, routes that nobody needs."""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.hostile_files import ODD, mutated

Request = tuple[str, str, str, bytes, dict[str, str]]
"""kind, method, path, body, headers."""
FILES = (
    "/etc/passwd",
    "/proc/self/environ",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:9/x",
    "/dev/zero",
    "",
)
ROUTES = (
    *("/gradio_api/proxy=http://127.0.0.1:9/", "/gradio_api/stream/a/b/1/playlist.m3u8", "/monitoring", "/svelte/x.js"),
    *(
        "/gradio_api/run/predict",
        "/gradio_api/call/reconstruct",
        "/gradio_api/component_server",
        "/gradio_api/dev/reload",
    ),
    *(
        "/gradio_api/process_recording",
        "/gradio_api/vibe-code",
        "/login",
        "/static/../../etc/passwd",
        "/assets/%2e%2e/x",
    ),
    *(
        "/downloads/x/0/face.glb",
        "/viewer/../page.py",
        "/gradio_api/deep_link",
        "/gradio_api/custom_component/1/a/b/c",
        "/x" * 500,
    ),
)


def page_requests(client: Any, count: int, seed: int = 0) -> list[Request]:
    """`count` requests; client: has opened the page."""
    functions = client.get("/config").json()["dependencies"]
    made = []
    for number in range(count):
        chance = random.Random(seed * 100_003 + number)
        made.append(chance.choice((_join, _join, _file, _route, _name, _listen, _upload))(chance, functions))
    return made


def _join(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    function = chance.choice(functions)
    file = {"path": chance.choice(FILES), "meta": {"_type": "gradio.FileData"}, "url": chance.choice(FILES)}
    data = [chance.choice([file, [file], {"video": file}, *ODD]) for _ in function["inputs"]]
    body: Any = {"fn_index": function["id"], "data": data, "session_hash": "hostile", "trigger_id": 1}
    if chance.random() < 0.5:
        body = mutated(chance, body)
    text = json.dumps(body).encode()
    if chance.random() < 0.1:
        text = text[: chance.randrange(len(text))]
    return "a request of the page", "POST", "/gradio_api/queue/join", text, {"content-type": "application/json"}


def _file(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    return (
        "a file",
        "GET",
        f"/gradio_api/file={chance.choice(FILES)}",
        b"",
        {"range": chance.choice(["", "bytes=1-2-3", "x"])},
    )


def _route(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    method = chance.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"][:5])
    return "a route", method, chance.choice(ROUTES), b'{"data": ["/etc/passwd"]}', {"content-type": "application/json"}


def _name(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    header = chance.choice(
        [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"host": "a@b:c"}, {"host": "[::1"}]
    )
    header = chance.choice([header, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://["}])
    return "a name", "GET", chance.choice(["/", "/healthz", "/config"]), b"", header


def _listen(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    name = chance.choice(["", "../x", "a" * 1000, "%00", "x y"])
    return (
        "a session",
        "GET",
        chance.choice([f"/gradio_api/queue/data?session_hash={name}", f"/gradio_api/heartbeat/{name}"]),
        b"",
        {},
    )


def _upload(chance: random.Random, functions: list[dict[str, Any]]) -> Request:
    name = chance.choice(["../../x.png", "", "a" * 5000, "x\r\ny", ".", "..", "\u202egpj", "/etc/passwd"])
    part = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\nx\r\n'.encode()
    body = part * chance.choice([0, 1, 1, 3, 50]) + chance.choice([b"--b--\r\n", b"", b"--c"])
    kind = chance.choice(["multipart/form-data; boundary=b", "multipart/form-data", "text/plain", ""])
    return "an upload", "POST", "/gradio_api/upload", body, {"content-type": kind}
