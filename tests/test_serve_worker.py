"""The server's worker, what it keeps for visitors, and its folder."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

from tokenface.app.bundle import viewer_glb
from tokenface.app.editing import Edit
from tokenface.app.folder import work_folder
from tokenface.app.photo_sessions import Files, PhotoSession, PhotoSessions
from tokenface.app.worker import Busy, TooLate, Worker, answer
from tokenface.errors import ImageError
from tokenface.formats.rig import PartMaterial, RigPart
from tokenface.hair import Hair
from tokenface.head.data import JOINT_NAMES
from tokenface.head.model import HeadModel
from tokenface.inference.result import PhotoResult
from tokenface.model import Reconstructor


def png(*marks: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo_with_marks(*marks)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def model() -> Reconstructor:
    return stand_in_model(HeadModel(toy_head_data()))


class Held:
    """A worker whose hands are full until `release` is called."""

    def __init__(self, model: Reconstructor, **options: Any) -> None:
        self.batches: list[int] = []
        settings = {"queue": 4, "seconds": 20.0, "pixels": 10**6, "faces": 4, **options}
        self.worker = Worker(lambda: model, watch=self.batches.append, **settings)  # type: ignore[arg-type]
        self._go, started = threading.Event(), threading.Event()

        def hold() -> None:
            started.set()
            self._go.wait(20)

        self.worker.call(hold)
        started.wait(20)

    def release(self) -> None:
        self._go.set()


def faces(result: PhotoResult) -> int:
    if result.error is not None:
        raise result.error
    return len(result.faces)


def test_photos_that_wait_are_done_together_and_each_gets_its_own_answer(model: Reconstructor) -> None:
    held = Held(model)
    photos = [png((60, 40, 40)), png((10, 10, 30), (90, 60, 40)), b"no picture", png()]
    waiting = [held.worker.photo(photo, faces) for photo in photos]
    held.release()
    assert [waiting[0].result(20), waiting[1].result(20)] == [1, 2]
    for future, message in zip(waiting[2:], ["not a picture", "no face found"], strict=True):
        with pytest.raises(ImageError, match=message):
            future.result(20)
    assert held.batches == [4]
    held.worker.close()


def test_a_full_queue_refuses_and_says_when_to_come_back(model: Reconstructor) -> None:
    held = Held(model, queue=2)
    kept = [held.worker.call(lambda: "done") for _ in range(2)]
    with pytest.raises(Busy, match="try again in") as refusal:
        held.worker.call(lambda: None)
    assert refusal.value.retry_after >= 1
    held.release()
    assert [future.result(20) for future in kept] == ["done", "done"]
    held.worker.close()


def test_who_waited_too_long_is_told_and_the_work_is_left_undone(model: Reconstructor) -> None:
    held = Held(model, seconds=0.6)
    held.worker._job_seconds = 0.01
    done: list[int] = []
    future = held.worker.call(lambda: done.append(1))
    time.sleep(0.7)
    held.release()
    with pytest.raises(Busy):
        future.result(20)
    assert not done
    held.worker.close()


def test_waiting_in_vain_is_told_from_work_that_takes_too_long(model: Reconstructor) -> None:
    held = Held(model)

    async def both() -> None:
        with pytest.raises(Busy):
            await answer(held.worker.call(lambda: None), 0.1)
        held.release()
        started, go = threading.Event(), threading.Event()

        def slow() -> None:
            started.set()
            go.wait(20)

        future = held.worker.call(slow)
        await asyncio.to_thread(started.wait, 20)
        with pytest.raises(TooLate):
            await answer(future, 0.1)
        go.set()

    asyncio.run(both())
    held.worker.close()


def test_who_would_wait_too_long_is_refused_at_once(model: Reconstructor) -> None:
    held = Held(model, queue=100, seconds=10.0)
    held.worker._job_seconds = 3.5
    held.worker.call(lambda: None)
    with pytest.raises(Busy, match="try again in 7 s"):
        held.worker.call(lambda: None)
    held.release()
    held.worker.close()


def test_a_failure_stays_with_its_request(model: Reconstructor) -> None:
    worker = Held(model)
    worker.release()
    broken: Future[float] = worker.worker.call(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.result(20)
    assert worker.worker.photo(png((60, 40, 40)), faces).result(20) == 1
    worker.worker.close()


def test_a_closed_worker_refuses(model: Reconstructor) -> None:
    held = Held(model)
    held.release()
    held.worker.close()
    with pytest.raises(Busy):
        held.worker.call(lambda: None)


@pytest.fixture
def photo_session(model: Reconstructor) -> PhotoSession:
    data = png((10, 10, 30), (90, 60, 40))
    result = next(iter(model.iterate(data)))
    assert result.image is not None
    return PhotoSession.of("two.png", data, result.faces, result.image)


def test_an_edit_shows_in_every_file_and_can_be_taken_back(photo_session: PhotoSession) -> None:
    found = {name: make() for name, make in makers(photo_session).items()}
    photo_session.edit(0, Edit(arkit={"jawOpen": 1.0}))
    changed = {name: make() for name, make in makers(photo_session).items()}
    assert [name for name in found if found[name] == changed[name]] == ["viewer"]
    photo_session.edits.clear()
    assert {name: make() for name, make in makers(photo_session).items()} == found


def test_the_viewer_gets_nothing_that_it_does_not_show(photo_session: PhotoSession) -> None:
    head, file = (
        pygltflib.GLTF2.load_from_bytes(photo_session.glb(0, "photo", as_found=found)) for found in (True, False)
    )
    assert [image.mimeType for image in head.images] == ["image/jpeg"]
    assert {image.mimeType for image in file.images} == {"image/png"}
    moving, told = (mesh.primitives[0].targets for mesh in (head.meshes[0], file.meshes[0]))
    assert [sorted(target) for target in moving] == [["POSITION"]] * len(told)
    assert all(sorted(target) == ["NORMAL", "POSITION"] for target in told)
    strands, brows = (part_of(name) for name in ("hair", "brows"))
    dressed = pygltflib.GLTF2.load_from_bytes(viewer_glb(photo_session.faces[0], hair=[strands, brows]))
    assert [mesh.name for mesh in dressed.meshes[1:]] == ["hair"]


def part_of(name: str) -> RigPart:
    """A triangle that stands still on the neck."""
    weights = np.zeros((3, len(JOINT_NAMES)), np.float32)
    weights[:, 1] = 1
    return RigPart(
        name=name,
        rest=np.eye(3, dtype=np.float32),
        faces=np.array([[0, 1, 2]]),
        uv=np.zeros((3, 2), np.float32),
        skinning_weights=weights,
        morph_names=(),
        morphs=np.zeros((0, 3, 3), np.float32),
        morph_weights=np.zeros(0, np.float32),
        fallbacks=frozenset(),
        material=PartMaterial(name, np.zeros((4, 4, 4), np.uint8), 0.5),
    )


def makers(photo_session: PhotoSession) -> dict[str, Any]:
    return {
        "glb": lambda: photo_session.glb(0, "model"),
        "viewer": lambda: photo_session.glb(0, "model", as_found=True),
        "obj": lambda: photo_session.obj(0, "photo"),
        "json": photo_session.json,
        "overlay": lambda: photo_session.overlay().tobytes(),
    }


def test_blended_people_have_blended_photos_as_skin(photo_session: PhotoSession, model: Reconstructor) -> None:
    data = png((60, 40, 40))
    result = next(iter(model.iterate(data)))
    assert result.image is not None
    photo_session.partner = PhotoSession.of("other.png", data, result.faces, result.image)
    own, other = photo_session._own_texture(0, "photo"), photo_session.partner._own_texture(0, "photo")
    assert own is not None
    assert other is not None
    photo_session.edit(0, Edit(share=0.5))
    half = photo_session._texture(0, "photo")
    assert half is not None
    assert np.abs(half.astype(float) - (own.astype(float) + other) / 2).max() <= 0.5
    assert photo_session.edits[0].other is photo_session.partner.faces[0]


def test_visits_go_when_there_are_too_many_or_they_are_too_old() -> None:
    photo_sessions = PhotoSessions(limit=250, seconds=60)
    tokens = [photo_sessions.add(Files({"a.glb": bytes(100)})) for _ in range(3)]
    assert [photo_sessions.get(token) is None for token in tokens] == [True, False, False]
    assert len(set(tokens)) == 3
    assert all(len(token) > 20 for token in tokens)
    photo_sessions.seconds = 0
    photo_sessions.tidy()
    assert len(photo_sessions) == 1  # the newest one is being looked at


def test_hair_that_is_kept_counts_as_memory_and_makes_old_sessions_go(photo_session: PhotoSession) -> None:
    before = photo_session.cost
    textures = [np.zeros((512, 512, 4), np.uint8), np.zeros((128, 128, 4), np.uint8), np.zeros((64, 64, 4), np.uint8)]
    strands, brows, others = (PartMaterial("hair", texture, 0.5) for texture in textures)
    photo_session._hairs |= {0: Hair(None, strands, brows), 1: Hair(None, None, others)}
    assert photo_session.cost == before + sum(texture.nbytes for texture in textures)
    sessions = PhotoSessions(limit=before + 100, seconds=60)
    token = sessions.add(photo_session)
    sessions.add(Files({"a.glb": bytes(10)}))
    assert sessions.get(token) is None


def test_the_folder_takes_all_temporary_files_and_goes_with_them() -> None:
    before = tempfile.gettempdir()
    with work_folder() as folder:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert Path(file.name).parent == folder.root
        (folder.new() / "clip.mp4").write_bytes(b"x")
    assert not folder.root.exists()
    assert tempfile.gettempdir() == before


def test_old_uploads_go_and_the_oldest_beyond_the_limit() -> None:
    with work_folder() as folder:
        paths = [folder.new() / "upload.bin" for _ in range(4)]
        for age, path in enumerate(paths):
            path.write_bytes(bytes(100))
            os.utime(path, (time.time() - 100 * age, time.time() - 100 * age))
        folder.tidy(seconds=250, limit=10_000)
        assert [path.exists() for path in paths] == [True, True, True, False]
        folder.tidy(seconds=250, limit=150)
        assert [path.exists() for path in paths] == [True, False, False, False]
