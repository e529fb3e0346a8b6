"""The HTTP API: answers, refusals, limits, and uploads that mean no good."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pygltflib
import pytest
from benchmarks.hostile import MAKERS, form, uploads
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from starlette.testclient import TestClient
from toy_head import toy_head_data

from tokenface.app.folder import WorkFolder, work_folder
from tokenface.app.limits import Limits
from tokenface.app.server import create_app
from tokenface.head.model import HeadModel
from tokenface.model import Reconstructor

PATH = "/v1/reconstruct"
LIMITS = Limits(upload_bytes=2_000_000, pixels=1_000_000, seconds=20, queue=2, faces=4)


def png(*marks: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo_with_marks(*marks)).save(buffer, format="PNG")
    return buffer.getvalue()


TWO = png((10, 10, 30), (90, 60, 40))


@pytest.fixture
def model() -> Reconstructor:
    return stand_in_model(HeadModel(toy_head_data()))


@pytest.fixture
def folder() -> Iterator[WorkFolder]:
    with work_folder() as made:
        yield made


@pytest.fixture
def client(model: Reconstructor, folder: WorkFolder) -> Iterator[TestClient]:
    app = create_app(lambda: model, lambda: model, folder, LIMITS, page=False)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as made:
        yield made


def post(client: TestClient, data: bytes = TWO, name: str = "two.png", query: str = "", **headers: str):
    return client.post(PATH + query, files={"photo": (name, data, "image/png")}, headers=headers)


def test_json_is_the_parameters_file_of_the_photo(client: TestClient, model: Reconstructor) -> None:
    answer = post(client)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["photo"] == {"name": "two.png", "width": 160, "height": 120}
    expected = model.reconstruct(TWO)
    assert [face["box"] for face in document["faces"]] == [face.box.tolist() for face in expected]
    assert document["faces"][0]["parameters"] == json.loads(json.dumps(expected[0].to_dict()["parameters"]))


def test_a_glb_can_be_asked_for_by_accept_or_by_parameter(client: TestClient) -> None:
    by_header = post(client, accept="model/gltf-binary, application/json;q=0.5")
    by_parameter = post(client, query="?format=glb&face=1")
    for answer in (by_header, by_parameter):
        assert answer.headers["content-type"] == "model/gltf-binary"
        assert len(pygltflib.GLTF2.load_from_bytes(answer.content).meshes) == 1
    assert by_header.content != by_parameter.content


def test_heads_wear_the_photo_unless_the_model_is_asked_for(client: TestClient, model: Reconstructor) -> None:
    def sizes(query: str) -> tuple[int, int]:
        document = pygltflib.GLTF2.load_from_bytes(post(client, query=f"?format=glb{query}").content)
        view = document.bufferViews[document.images[0].bufferView]
        data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        return Image.open(io.BytesIO(data)).size

    albedo = model.reconstruct(TWO)[0].albedo.shape[1::-1]
    assert sizes("&texture=model") == albedo
    assert sizes("") == sizes("&texture=photo") == (512, 512) != albedo
    assert post(client, query="?format=glb&texture=velvet").status_code == 422


def test_a_zip_holds_every_file_of_every_face(client: TestClient) -> None:
    with zipfile.ZipFile(io.BytesIO(post(client, query="?format=zip&max_faces=1").content)) as archive:
        assert sorted(archive.namelist()) == [
            *("face_00.glb", "face_00.mtl", "face_00.obj", "face_00.png", "overlay.png", "parameters.json")
        ]
        assert archive.testzip() is None
        assert b"mtllib face_00.mtl" in archive.read("face_00.obj")


@pytest.mark.parametrize(
    ("query", "headers", "status", "words"),
    [
        ("?format=glb&face=2", {}, 422, "there is no face 2; the photo has 2"),
        ("?format=ply", {}, 422, "format"),
        ("?max_faces=0", {}, 422, "max_faces"),
        ("?max_faces=5", {}, 422, "max_faces"),
        ("", {"accept": "text/html"}, 406, "application/json"),
    ],
)
def test_impossible_wishes_are_refused(
    client: TestClient, query: str, headers: dict[str, str], status: int, words: str
) -> None:
    answer = post(client, query=query, **headers)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_photo_without_a_face_is_no_success(client: TestClient) -> None:
    answer = post(client, png())
    assert (answer.status_code, "no face found" in answer.json()["error"]) == (422, True)


def test_what_is_no_form_is_refused(client: TestClient) -> None:
    assert client.post(PATH, content=TWO, headers={"content-type": "image/png"}).status_code == 415
    assert client.post(PATH, files={"other": ("a.png", TWO)}).status_code == 422
    assert client.put(PATH, files={"photo": ("a.png", TWO)}).status_code == 405


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded(client: TestClient) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, format="PNG")
    answer = post(client, buffer.getvalue())
    assert answer.status_code == 422
    assert "16 million pixels, more than the limit of 1" in answer.json()["error"]


def test_more_bytes_than_allowed_are_refused_declared_or_not(client: TestClient) -> None:
    large = form("", bytes(3_000_000))
    declared = client.post(PATH, content=large.body, headers=large.headers)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large.body), 100_000):
            yield large.body[start : start + 100_000]

    streamed = client.post(PATH, content=pieces(), headers=large.headers)
    assert "content-length" not in streamed.request.headers
    for answer in (declared, streamed):
        assert (answer.status_code, "larger than" in answer.json()["error"]) == (413, True)


@pytest.mark.parametrize(("rest", "status"), [({"type": "http.disconnect"}, 400), (None, 408)])
def test_an_upload_that_breaks_off_or_stalls_ends_in_peace(
    model: Reconstructor, folder: WorkFolder, rest: dict[str, str] | None, status: int
) -> None:
    app = create_app(lambda: model, lambda: model, folder, replace(LIMITS, seconds=0.5), page=False)
    upload = form("", TWO)
    headers = [(b"host", b"127.0.0.1")]
    headers += [(name.lower().encode(), value.encode()) for name, value in upload.headers.items()]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": PATH, "raw_path": PATH.encode()}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "client": ("test", 1), "server": ("test", 80)}
    pieces = [{"type": "http.request", "body": upload.body[:1000], "more_body": True}]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        if pieces:
            return pieces.pop()
        if rest is None:
            await asyncio.sleep(60)
        return rest  # type: ignore[return-value]

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(app({**scope, "headers": headers}, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == status


def test_a_full_queue_answers_429_and_says_when_to_come_back(client: TestClient, model: Reconstructor) -> None:
    while client.get("/readyz").status_code == 503:  # what the start itself does is no request
        threading.Event().wait(0.01)
    go, busy, find = threading.Event(), threading.Event(), model.detector.detect

    def slow(image):  # type: ignore[no-untyped-def]
        busy.set()
        go.wait(20)
        return find(image)

    model.detector.detect = slow  # type: ignore[method-assign]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(post(client).status_code)) for _ in range(3)]
    threads[0].start()
    assert busy.wait(20)
    for thread in threads[1:]:
        thread.start()
    while client.get("/healthz").json()["waiting"] < LIMITS.queue:
        threading.Event().wait(0.01)
    refused = post(client)
    go.set()
    for thread in threads:
        thread.join(20)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert statuses == [200, 200, 200]
    assert 'tokenface_requests_total{path="/v1/reconstruct",status="429"} 1.0' in client.get("/metrics").text


def test_an_error_that_nobody_foresaw_says_nothing_of_the_server(
    client: TestClient, model: Reconstructor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(client).status_code == 200

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("secret /home/somebody/key")

    monkeypatch.setattr(model, "iterate", broken)
    with caplog.at_level(logging.CRITICAL):
        answer = post(client)
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong on the server; its log says what"}


def test_metrics_count_photos_and_faces(client: TestClient) -> None:
    post(client)
    before = figures(client)
    post(client)
    post(client, b"nothing")
    after = figures(client)
    assert after["tokenface_faces_total"] - before["tokenface_faces_total"] == 2
    done = 'tokenface_photos_total{status="done"}'
    assert after[done] - before[done] == 1
    assert after['tokenface_photos_total{status="failed"}'] == 1
    assert after["process_resident_memory_bytes"] > 1e7


def figures(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_the_page_about_the_api_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    schema = client.get("/openapi.json").json()
    operation = schema["paths"][PATH]["post"]
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {"200", "413", "415", "422", "429", "503"} <= set(operation["responses"])


def test_hostile_uploads_are_refused_in_one_line_and_leave_nothing(client: TestClient, folder: WorkFolder) -> None:
    for upload in uploads(len(MAKERS)):
        answer = client.request(upload.method, PATH, content=upload.body, headers=upload.headers)
        assert answer.status_code in {200, 400, 405, 406, 413, 415, 422}, (upload.kind, answer.text)
        if answer.status_code != 200:
            assert list(answer.json()) == ["error"], upload.kind
        assert "Traceback" not in answer.text, upload.kind
    assert [path for path in folder.root.rglob("*") if path.is_file()] == []
    assert not Path("/tmp/tokenface-was-here.jpg").exists()
    assert post(client).status_code == 200


def test_the_page_serves_and_takes_no_file_outside_its_folder(model: Reconstructor, folder: WorkFolder) -> None:
    app = create_app(lambda: model, lambda: model, folder, LIMITS)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert "tokenface" in client.get("/").text.lower()
        for path in ("/etc/passwd", Path(__file__), folder.root.parent / "x", f"{folder.uploads}/../../etc/passwd"):
            assert client.get(f"/gradio_api/file={path}").status_code in (403, 404), path
        sent = client.post("/gradio_api/upload", files={"files": ("../../../../tmp/tokenface-was-here.png", TWO)})
        assert sent.status_code == 200
        assert Path(sent.json()[0]).resolve().is_relative_to(folder.uploads.resolve())
        assert client.get("/viewer/viewer.js").headers["content-type"].startswith("text/javascript")
        results = ("/downloads/x/0/face.glb", "/downloads/x/transfer.glb")
        for path in ("/viewer/page.css", "/viewer/..%2Fpage.py", *results):
            answer = client.get(path)
            assert (answer.status_code, "Traceback" in answer.text) == (404, False), path


def test_the_server_costs_nothing_until_it_is_started() -> None:
    script = "import sys, tokenface, tokenface.cli.app; print({'gradio', 'fastapi', 'torch'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
