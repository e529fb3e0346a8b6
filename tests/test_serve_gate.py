"""The page's gate: files of the server's and of other visitors, other names and origins, routes that nobody needs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from needed import needs
from stand_ins import stand_in_model
from starlette.testclient import TestClient
from test_serve_api import LIMITS, TWO
from toy_head import toy_head_data

from tokenface.app import visitors
from tokenface.app.addresses import own_names
from tokenface.app.connections import _trusted
from tokenface.app.folder import WorkFolder, work_folder
from tokenface.app.server import create_app
from tokenface.app.uploads import safe_name
from tokenface.head.model import HeadModel
from tokenface.model import Reconstructor

needs("gradio", reason="the page needs the extra web")

ADDRESS = "http://127.0.0.1:7860"
RECONSTRUCT, TRACK, TRANSFER = "reconstruct", "track", "run"


@pytest.fixture(scope="module")
def model() -> Reconstructor:
    return stand_in_model(HeadModel(toy_head_data()))


@pytest.fixture(scope="module")
def folder() -> Iterator[WorkFolder]:
    with work_folder() as made:
        yield made


@pytest.fixture(scope="module")
def app(model: Reconstructor, folder: WorkFolder) -> Any:
    return create_app(lambda: model, lambda: model, folder, LIMITS)


@pytest.fixture(scope="module")
def running(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def visitor(running: TestClient, app: Any) -> TestClient:
    """A browser that has opened the page."""
    return opened(app)


@pytest.fixture
def other(running: TestClient, app: Any) -> TestClient:
    return opened(app)


def opened(app: Any) -> TestClient:
    client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    assert client.get("/").status_code == 200
    return client


def uploaded(client: TestClient, data: bytes = TWO, name: str = "two.png") -> str:
    answer = client.post("/gradio_api/upload", files={"files": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def function(client: TestClient, name: str) -> tuple[int, list[Any]]:
    """Number of the first function of that name, and inputs as the page's script sends them."""
    config = client.get("/config").json()
    kinds = {part["id"]: part for part in config["components"]}
    for entry in config["dependencies"]:
        if entry["api_name"] in (name, f"{name}_1") and entry["backend_fn"]:
            values = [kinds[number]["props"].get("value") for number in entry["inputs"]]
            return entry["id"], values
    raise AssertionError(name)


def session_of(client: TestClient) -> str:
    """A name of its own for every browser."""
    return f"s{id(client)}"


def file_of(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def asked(client: TestClient, name: str, files: list[Any], session: str = "") -> Any:
    """Put a request with these files in the places for files."""
    number, values = function(client, name)
    values[: len(files)] = files
    body = {"fn_index": number, "data": values, "session_hash": session or session_of(client)}
    return client.post("/gradio_api/queue/join", content=json.dumps(body))


def answered(client: TestClient, session: str = "") -> dict[str, Any]:
    """What the function returned."""
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={session or session_of(client)}") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                message = json.loads(line[6:])
                if message["msg"] == "process_completed":
                    return message
    raise AssertionError("no answer")


def test_an_upload_of_the_visitors_own_is_reconstructed(visitor: TestClient) -> None:
    path = uploaded(visitor)
    assert asked(visitor, RECONSTRUCT, [file_of(path)]).status_code == 200
    message = answered(visitor)
    assert message["success"], message
    assert "tokenface-viewer" in json.dumps(message["output"]["data"])
    shown = visitor.get(f"/gradio_api/file={path}")
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, TWO, "image/png")


@pytest.mark.parametrize(("name", "count"), [(RECONSTRUCT, 1), (TRACK, 1), (TRANSFER, 2)])
def test_no_file_of_the_server_is_read(
    visitor: TestClient, name: str, count: int, tmp_path: Path, folder: WorkFolder, model: Reconstructor
) -> None:
    """Photo, video and transfer tab: files outside, links to them inside, detours, and files of the server's own."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(TWO)
    own = Path(uploaded(visitor))
    link = own.with_name("link.png")
    link.symlink_to(secret)
    linked_folder = own.parent.parent / "linked"
    linked_folder.unlink(missing_ok=True)
    linked_folder.symlink_to(tmp_path)
    example = next(path for path in folder.root.iterdir() if path.is_file())
    bad: list[Any] = [
        *(secret, link, linked_folder / "secret.png", example, own.parent / ".." / own.parent.name / own.name),
        *("/etc/passwd", "http://127.0.0.1:9/a.png", "file:///etc/passwd", "", "two.png", own.parent, "a\0b"),
    ]
    looked_at = len(model.detector.looked_at)  # type: ignore[attr-defined]
    copies = len(list(folder.root.rglob("secret*")))
    for path in bad:
        answer = asked(visitor, name, [file_of(path)] * count)
        assert (answer.status_code, list(answer.json())) == (403, ["error", "detail"]), path
    for odd in ({"path": None}, {"url": "file:///etc/passwd"}, {"path": [str(secret)]}, [[file_of(secret)]], {"a": 1}):
        assert asked(visitor, name, [odd] * count).status_code in (403, 422), odd
    for missing in ({"path": str(secret)}, {"path": str(secret), "is_stream": True}, {"root": [file_of(secret)]}):
        assert asked(visitor, name, [missing] * count).status_code in (403, 422), missing
    for path in bad[:4]:
        assert visitor.get(f"/gradio_api/file={path}").status_code in (403, 404), path
    assert len(model.detector.looked_at) == looked_at  # type: ignore[attr-defined]
    assert len(list(folder.root.rglob("secret*"))) == copies


def test_another_visitors_upload_is_refused(visitor: TestClient, other: TestClient, app: Any) -> None:
    path = uploaded(other)
    assert asked(visitor, RECONSTRUCT, [file_of(path)]).status_code == 403
    assert visitor.get(f"/gradio_api/file={path}").status_code == 403
    assert other.get(f"/gradio_api/file={path}").status_code == 200
    stranger = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    assert stranger.get(f"/gradio_api/file={path}").status_code == 403
    assert asked(stranger, RECONSTRUCT, [file_of(path)]).status_code == 403
    assert stranger.post("/gradio_api/upload", files={"files": ("a.png", TWO)}).status_code == 403


@pytest.mark.parametrize("others", ['theme={"mode":"dark"}', "a=b c", "path=/", "word"])
def test_cookies_of_others_on_the_host_do_no_harm(visitor: TestClient, app: Any, others: str) -> None:
    own = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, headers={"cookie": f"{others}; {own}"})
    answer = client.post("/gradio_api/upload", files={"files": ("two.png", TWO)})
    assert answer.status_code == 200, answer.text


def test_a_clips_archive_does_not_hold_itself(tmp_path: Path) -> None:
    from tokenface.app.page_video import _downloads

    (tmp_path / "out" / "person_00").mkdir(parents=True)
    for name in ("overlay.mp4", "track.json", "person_00/animation.glb"):
        (tmp_path / "out" / name).write_bytes(b"x")
    (tmp_path / "archived").mkdir()
    archive, head = _downloads(tmp_path / "out", tmp_path / "archived")
    with zipfile.ZipFile(archive) as file:
        names = {name for name in file.namelist() if not name.endswith("/")}
    assert names == {"overlay.mp4", "track.json", "person_00/animation.glb"}
    assert Path(head).is_file()
    assert not (tmp_path / "out" / "track.zip").exists()


@pytest.mark.parametrize(
    ("address", "proxies", "trusted"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("11.1.2.3", ["*"], True),
        ("::1", ["127.0.0.1", "::1"], True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1, localhost", False),
    ],
)
def test_proxies_are_addresses_networks_or_all(address: str, proxies: str | list[str], trusted: bool) -> None:
    assert _trusted(address, proxies) is trusted


def test_another_visitors_session_cannot_be_listened_to_or_ended(visitor: TestClient, other: TestClient) -> None:
    assert asked(other, RECONSTRUCT, [file_of(uploaded(other))], "theirs").status_code == 200
    assert visitor.get("/gradio_api/queue/data?session_hash=theirs").status_code == 403
    assert visitor.get("/gradio_api/heartbeat/theirs").status_code == 403
    assert asked(visitor, RECONSTRUCT, [file_of(uploaded(visitor))], "theirs").status_code == 403
    end = {"session_hash": "theirs", "fn_index": 0, "event_id": "x"}
    assert visitor.post("/gradio_api/cancel", json=end).status_code == 403
    assert answered(other, "theirs")["success"]


def test_who_listens_and_asked_for_nothing_raises_nothing(app: Any, visitor: TestClient) -> None:
    client = TestClient(app, base_url=ADDRESS, cookies=dict(visitor.cookies))  # raises what the server would log
    answer = client.get("/gradio_api/queue/data?session_hash=asked-for-nothing")
    assert answer.status_code == 200
    assert '"session_not_found":true' in answer.text


def test_a_picture_is_not_decoded_by_the_pages_own_components(
    visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gradio would open it with any of Pillow's plugins, and convert what has another mode, whatever its size."""
    from PIL import EpsImagePlugin

    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    path = uploaded(visitor, script, "photo.jpg")
    assert asked(visitor, RECONSTRUCT, [file_of(path)]).status_code == 200
    assert "not a picture that can be read" in json.dumps(answered(visitor)["output"])  # said where the head would be
    assert started == []


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_other_names_get_no_answer(visitor: TestClient, name: str) -> None:
    for path in ("/", "/healthz", "/config"):
        assert visitor.get(path, headers={"host": name}).status_code == 403, path
    assert visitor.post("/v1/reconstruct", files={"photo": ("a.png", TWO)}, headers={"host": name}).status_code == 403


@pytest.mark.parametrize(
    "name", ["localhost:7860", "127.0.0.1", "192.168.1.9:80", "[::1]:7860", "LOCALHOST", "localhost."]
)
def test_addresses_and_own_names_get_an_answer(visitor: TestClient, name: str) -> None:
    assert visitor.get("/healthz", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:3000", "null", "file://", "http://localhost:7860"]
)
def test_other_origins_get_no_answer(visitor: TestClient, origin: str) -> None:
    sent = visitor.post("/v1/reconstruct", files={"photo": ("a.png", TWO)}, headers={"origin": origin})
    assert (sent.status_code, list(sent.json())) == (403, ["error"])
    assert visitor.get("/healthz", headers={"origin": ADDRESS}).status_code == 200


def test_a_proxys_name_can_be_allowed(model: Reconstructor, folder: WorkFolder) -> None:
    names = own_names("127.0.0.1", ["Heads.example.org"])
    app = create_app(lambda: model, lambda: model, folder, LIMITS, page=False, names=names)
    with TestClient(app, base_url=ADDRESS) as client:
        assert client.get("/healthz", headers={"host": "heads.example.org"}).status_code == 200
        assert client.get("/healthz", headers={"origin": "https://heads.example.org"}).status_code == 200
        assert client.get("/healthz", headers={"host": "example.org"}).status_code == 403
    assert own_names("127.0.0.1") == {"localhost", "127.0.0.1"}
    assert len(own_names("0.0.0.0")) > 2  # the machine's own name, for others in the house


def test_routes_of_gradio_that_the_page_does_not_need_are_not_there(visitor: TestClient) -> None:
    routes = [
        *("/gradio_api/proxy=http://127.0.0.1:1/x", "/gradio_api/file/etc/passwd", "/gradio_api/deep_link"),
        *("/gradio_api/file=http://127.0.0.1:1/x", "/gradio_api/custom_component/1/a/b/c", "/svelte/svelte.js"),
        *("/gradio_api/queue/status", "/monitoring", "/monitoring/summary", "/gradio_api/openapi.json", "/login"),
        *("/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/token", "/gradio_api/vibe-code", "/logout"),
        *("/gradio_api/call/reconstruct/x", "/gradio_api/runs", "/pwa_icon", "/gradio_api/dev/reload", "/nothing"),
    ]
    for path in routes:
        answer = visitor.get(path)
        assert (answer.status_code in (403, 404), "error" in answer.json()) == (True, True), path
    for path in (
        "run/predict",
        "api/reconstruct",
        "call/reconstruct",
        "component_server",
        "process_recording",
        "reset",
    ):
        answer = visitor.post(f"/gradio_api/{path}", json={"data": [file_of("/etc/passwd")], "fn_index": 0})
        assert (answer.status_code, "error" in answer.json()) == (404, True), path


@pytest.mark.parametrize(
    "body",
    [
        {"fn_index": 10**9, "data": [], "session_hash": "a"},
        {"fn_index": -1, "data": [], "session_hash": "a"},
        {"fn_index": "0", "data": [], "session_hash": "a"},
        {"fn_index": None, "data": [], "session_hash": "a"},
        {"fn_index": True, "data": [], "session_hash": "a"},
        {"data": [], "session_hash": "a"},
        {"fn_index": 0, "data": 5, "session_hash": "a"},
        {"fn_index": 0, "data": [1] * 1000, "session_hash": "a"},
        {"fn_index": 0, "data": [], "session_hash": {"a": 1}},
        [1, 2],
        "text",
        None,
    ],
)
def test_unknown_functions_and_odd_requests_are_refused_in_one_form(visitor: TestClient, body: object) -> None:
    answer = visitor.post("/gradio_api/queue/join", content=json.dumps(body))
    assert (answer.status_code, list(answer.json())) == (422, ["error", "detail"])


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[" * 200_000, b'{"fn_index": NaN}', b"1" * 9000, b"x" * 2_000_000]
)
def test_what_is_no_json_is_refused_in_one_form(visitor: TestClient, text: bytes) -> None:
    answer = visitor.post("/gradio_api/queue/join", content=text)
    assert (answer.status_code in (413, 422), "error" in answer.json()) == (True, True)


@pytest.mark.parametrize("values", [[None, "Nothing", True, None], [None, {"path": "x"}, "no", 3]])
def test_odd_values_of_a_function_end_in_peace(visitor: TestClient, values: list[Any]) -> None:
    number, usual = function(visitor, RECONSTRUCT)
    body = {"fn_index": number, "data": values, "session_hash": "odd"}
    assert len(values) == len(usual)
    answer = visitor.post("/gradio_api/queue/join", content=json.dumps(body))
    if answer.status_code == 200:
        assert "Traceback" not in json.dumps(answered(visitor, "odd"))
    else:
        assert answer.status_code in (403, 422)


def test_uploads_keep_no_path_of_their_names(visitor: TestClient, folder: WorkFolder) -> None:
    for name in (
        "../../../../tmp/tokenface-was-here.png",
        "a\\..\\b.png",
        "..",
        ".bashrc",
        "\u202egpj.exe",
        "a" * 3000,
    ):
        path = Path(uploaded(visitor, TWO, name))
        assert path.is_relative_to(folder.uploads.resolve())
        assert path.resolve() == path
    assert safe_name("a b<c>.tar.gz") == "a_b_c_.tar.gz"
    assert safe_name("/etc/") == "file"
    assert visitor.post("/gradio_api/upload", files=[("files", (f"{i}.png", TWO)) for i in range(9)]).status_code == 400
    assert visitor.post("/gradio_api/upload", content=b"x").status_code == 415
    assert visitor.post("/gradio_api/upload", files={"other": ("a.png", TWO)}).status_code == 422


def test_requests_that_nobody_listens_to_are_given_up(
    folder: WorkFolder, model: Reconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take their client's share of the places at most, and not for long."""
    monkeypatch.setattr(visitors, "FIRST_WORD", 100.0)  # longer than forty requests take on a busy machine
    go, find = threading.Event(), model.detector.detect
    monkeypatch.setattr(model.detector, "detect", lambda image: (go.wait(60), find(image))[1])
    app = create_app(lambda: model, lambda: model, folder, replace(LIMITS, queue=100, seconds=200))
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False):
        mute, other = opened(app), opened(app)
        path = uploaded(mute)
        statuses = [asked(mute, RECONSTRUCT, [file_of(path)], f"mute{i // 10}").status_code for i in range(40)]
        assert statuses[:10] == [200] * 8 + [429] * 2  # of a session
        assert statuses.count(200) <= 24  # of an address
        assert asked(other, RECONSTRUCT, [file_of(uploaded(other))]).status_code == 429
        monkeypatch.setattr(visitors, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 101))
        status = 429
        while status == 429:
            time.sleep(0.05)
            status = asked(other, RECONSTRUCT, [file_of(uploaded(other))]).status_code
        assert not go.is_set()
        go.set()
        assert (status, answered(other)["success"]) == (200, True)


def test_a_clip_stops_when_its_visitor_leaves(visitor: TestClient, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenface.app import page_video

    monkeypatch.setattr(visitors, "FIRST_WORD", 0.3)
    stopped, begun = threading.Event(), threading.Event()

    class Endless:
        def __init__(self, *_: object) -> None:
            begun.set()

        def __iter__(self) -> Iterator[Any]:
            try:
                while True:
                    time.sleep(0.01)
                    yield page_video.Step("track", 1, 10)
            finally:
                stopped.set()

    monkeypatch.setattr(page_video, "TrackRun", Endless)
    path = uploaded(visitor, b"clip", "clip.mp4")
    assert asked(visitor, TRACK, [file_of(path)], "leaving").status_code == 200
    assert begun.wait(20)
    assert stopped.wait(20)  # nobody came to listen


@pytest.mark.parametrize("path", ["*", "", "http://127.0.0.1/healthz"])
def test_a_request_without_a_path_is_refused_in_one_form(running: TestClient, app: Any, path: str) -> None:
    """`PRI * HTTP/2.0` begins HTTP/2, which nobody speaks here."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "PRI", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "client": ("a", 1), "server": ("b", 80)}
    asyncio.run(app({**scope, "headers": [(b"host", b"127.0.0.1")]}, receive, send))
    assert (sent[0]["status"], list(json.loads(sent[1]["body"]))) == (400, ["error"])
