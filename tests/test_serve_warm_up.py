"""Warm-up of a starting server: what it gets ready, whom it lets go first, and that it leaves no trace."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from stand_ins import stand_in_model
from starlette.testclient import TestClient
from test_reconstruct_photo import needs_detector, needs_weights
from test_serve_api import LIMITS, TWO, figures, post
from toy_head import toy_head_data

from tokenface.app.folder import work_folder
from tokenface.app.limits import Limits
from tokenface.app.server import create_app
from tokenface.app.warm_up import warm_up
from tokenface.app.worker import Worker
from tokenface.head.model import HeadModel
from tokenface.images.detection import Detection
from tokenface.model import Reconstructor

FIRST_PHOTO = """
import sys, time
from importlib.util import find_spec
from tokenface.app.api import _encoded
from tokenface.app.downloads import _make
from tokenface.app.limits import Limits
from tokenface.app.photo_sessions import PhotoSession
from tokenface.app.warm_up import warm_up
from tokenface.app.worker import Worker
from tokenface.jobs.examples import SHIPPED, example_photos
from tokenface.model import Reconstructor

limits, data = Limits(), example_photos()[SHIPPED]
model = Reconstructor.load(None, "cpu", "torch")
worker = Worker(lambda: model, limits.queue, 600.0, limits.pixels, limits.faces)
worker.warm_up(warm_up(lambda: worker.model, limits, page=True))
while not worker.warm:
    time.sleep(0.05)
before = set(sys.modules)
if find_spec("matplotlib"):  # as gradio does at an event
    import matplotlib
    matplotlib.get_backend()
session = worker.photo(data, lambda result: PhotoSession.of("a.jpg", data, result.faces, result.image)).result(600)
for name, hair in (("found.glb", True), ("overlay.jpg", False), ("face.glb", False), ("face-obj.zip", False)):
    worker.call(lambda: _make(session, 0, name, "photo", hair)).result(600)
worker.photo(data, lambda result: _encoded(result, "a.jpg", "json", 0, 1, "photo", False)).result(600)
print(sorted(set(sys.modules) - before))
worker.close()
"""
"""What a page and a client of the API ask for, in an interpreter that has done nothing else but warm up."""


@pytest.fixture
def worker() -> Iterator[Worker]:
    model = stand_in_model(HeadModel(toy_head_data()))
    made = Worker(lambda: model, queue=4, seconds=20.0, pixels=10**6, faces=4)
    yield made
    made.close()


@needs_detector
@needs_weights
def test_after_the_warm_up_nothing_is_imported_for_a_photo() -> None:
    with work_folder() as folder:
        create_app(lambda: None, lambda: None, folder, LIMITS, page=False)  # type: ignore[arg-type, return-value]
    done = subprocess.run([sys.executable, "-c", FIRST_PHOTO], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_requests_come_before_the_next_step(worker: Worker) -> None:
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def steps() -> Iterator[None]:
        begun.set()
        go.wait(20)
        order.append("first step")
        yield
        order.append("second step")

    worker.warm_up(steps())
    assert begun.wait(20)
    waiting = [worker.call(lambda name=name: order.append(name)) for name in ("a", "b")]  # type: ignore[misc]
    assert not worker.warm
    go.set()
    for future in waiting:
        future.result(20)
    until_warm(worker)
    assert order == ["first step", "a", "b", "second step"]


def until_warm(worker: Worker) -> None:
    while not worker.warm:
        time.sleep(0.01)


def test_an_error_of_the_warm_up_is_one_line_and_the_next_photo_is_served(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Iterator[None]:
        yield
        raise RuntimeError("first line\nsecond line")

    with caplog.at_level(logging.WARNING):
        worker.warm_up(steps())
        until_warm(worker)
    (record,) = caplog.records
    assert "the warm-up ended early" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None
    assert worker.photo(TWO, lambda result: len(result.faces)).result(20) == 2


def test_a_worker_that_is_closed_finishes_the_step_in_hand_and_begins_no_other(worker: Worker) -> None:
    """A step that was broken off could leave a package half imported."""
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def steps() -> Iterator[None]:
        begun.set()
        go.wait(20)
        done.append("first step")
        yield
        done.append("second step")

    worker.warm_up(steps())
    assert begun.wait(20)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker._closed:
        time.sleep(0.01)
    go.set()
    closing.join(20)
    assert not worker._thread.is_alive()
    assert done == ["first step"]


def test_a_worker_that_is_closed_finishes_the_job_in_hand(worker: Worker) -> None:
    begun, go = threading.Event(), threading.Event()
    answer = worker.call(lambda: (begun.set(), go.wait(20), "done")[-1])
    assert begun.wait(20)
    worker.warm_up(iter([None]))
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker._closed:
        time.sleep(0.01)
    go.set()
    assert answer.result(20) == "done"
    closing.join(20)
    assert not worker._thread.is_alive()


@pytest.fixture
def model() -> Reconstructor:
    """Finds a face in the middle of every photo."""
    made = stand_in_model(HeadModel(toy_head_data()))

    def found(image: np.ndarray) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection(box=np.array([0.3 * width, 0.3 * height, 0.6 * width, 0.7 * height]), score=1.0)]

    made.detector.detect = found  # type: ignore[method-assign]
    return made


def test_the_servers_figures_and_folder_know_nothing_of_its_warm_up(
    model: Reconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def watched(*given: object) -> Iterator[str]:
        for name in warm_up(*given):  # type: ignore[arg-type]
            names.append(name)
            yield name

    monkeypatch.setattr("tokenface.app.warm_up.warm_up", watched)
    with work_folder() as folder:
        app = create_app(lambda: model, lambda: model, folder, LIMITS, page=False)
        with TestClient(app, base_url="http://localhost") as client:
            until_ready(client)
            assert names[:5] == ["photo", "file", "texture", "overlay", "download"]
            before = figures(client)
            assert [path for path in folder.root.rglob("*") if path.is_file()] == []
            assert post(client).status_code == 200
            after = figures(client)
    counted = {name for name, value in before.items() if value and not name.split("{")[0].endswith("_created")}
    assert {name for name in counted if name.startswith("tokenface_")} == set()
    assert after["tokenface_batch_photos_count"] == 1


def until_ready(client: TestClient) -> None:
    while client.get("/readyz").status_code == 503:
        time.sleep(0.01)
    assert client.get("/readyz").json() == {"status": "ready"}


def test_a_server_is_alive_at_once_and_ready_when_it_is_warm(
    model: Reconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(*_: object) -> Iterator[None]:
        go.wait(20)
        yield

    monkeypatch.setattr("tokenface.app.warm_up.warm_up", slow)
    with work_folder() as folder:
        app = create_app(lambda: model, lambda: model, folder, LIMITS, page=False)
        with TestClient(app, base_url="http://localhost") as client:
            assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}
            cold = client.get("/readyz")
            assert (cold.status_code, list(cold.json())) == (503, ["error"])
            go.set()
            until_ready(client)


def test_limits_that_the_warm_ups_photo_exceeds_end_it_in_one_line(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        worker.warm_up(warm_up(lambda: worker.model, replace(Limits(), pixels=1000)))
        until_warm(worker)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "million pixels, more than the limit" in caplog.text
