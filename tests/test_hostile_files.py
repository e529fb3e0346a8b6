"""Files of numbers that mean no good: bombs, headers that lie, documents that cannot be; every entrance in small."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmarks.hostile_doors import DOORS, _document
from benchmarks.hostile_files import MARKER, array_header, case, packed
from PIL import Image
from special_files import in_time

from tokenface.core.arrays import open_arrays, read_npy
from tokenface.core.configuration import read_config
from tokenface.core.files import parse_json
from tokenface.data.readers.dataset import read_landmarks
from tokenface.data.readers.landmark_tar import read_landmark_tar
from tokenface.errors import ConfigError, DataError, EvaluationError, HeadModelError, TokenFaceError
from tokenface.evaluation.now import NowFolder
from tokenface.evaluation.report import write_report
from tokenface.formats.parameters import read_parameters
from tokenface.head.obj_file import read_obj
from tokenface.head.registry import load_head
from tokenface.inference.face import Face
from tokenface.jobs.reconstruct import read_boxes
from tokenface.retarget.sources import read_source
from tokenface.training.config import TrainConfig
from tokenface.training.run import train


def test_a_bomb_of_arrays_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    content = packed({"shape.npy": array_header((1 << 28, 1), "<f8")}, {"shape.npy": 1 << 31})
    (tmp_path / "bomb.npz").write_bytes(content)
    assert len(content) < 20_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="more than the limit") as caught:
        read_source(tmp_path / "bomb.npz")
    assert "bomb.npz" in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("shape", [(10**11,), (-5,), (2**40, 2**40), (3, -1), (0,)])
def test_headers_that_promise_what_is_not_there_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    lie = array_header(shape, "<f4") + bytes(64)
    with pytest.raises(ValueError, match="promised"):
        read_npy(lie)
    with open_arrays(packed({"a.npy": lie}, {})) as file, pytest.raises(ValueError, match="promised"):
        file["a"]
    (tmp_path / "points.npy").write_bytes(lie)
    with pytest.raises(DataError, match=r"points\.npy"):
        read_landmarks(tmp_path / "points.npy")


def test_arrays_come_back_as_numpy_wrote_them() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3)), "c": np.array("text")}
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        with open_arrays(buffer.getvalue()) as file:
            assert sorted(file.files) == ["a", "b", "c"]
            for name, array in arrays.items():
                np.testing.assert_array_equal(file[name], array)


def test_objects_and_what_is_no_archive_are_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{1: 2}], dtype=object), allow_pickle=True)
    with open_arrays(buffer.getvalue()) as file, pytest.raises(ValueError, match="objects"):
        file["a"]
    for content in (b"", b"nothing", b"PK\3\4" + bytes(50)):
        with pytest.raises(ValueError, match=r"no \.npz"), open_arrays(content):
            pass


@pytest.mark.parametrize(
    "text", ["NaN", "[1, Infinity]", '{"a": -Infinity}', "1e999", "[" * 100_000, "[" * 200 + "]" * 200]
)
def test_json_is_finite_and_not_deep(text: str) -> None:
    with pytest.raises(ValueError, match=r"finite|nested|deep"):
        parse_json(text)


SPOILED = {
    "doubled numbers of faces": lambda d: d["faces"][1].update(index=0),
    "a number that is none": lambda d: d["faces"][1].update(index="1"),
    "a negative number": lambda d: d["faces"][1].update(index=-1),
    "a short shape": lambda d: d["faces"][0]["parameters"].update(shape=[0.0]),
    "a shape of texts": lambda d: d["faces"][0]["parameters"].update(shape=["a"]),
    "a number beyond float32": lambda d: d["faces"][0]["parameters"].update(jaw=[1e300, 0, 0]),
    "a crop without size": lambda d: d["faces"][0]["crop"].update(size=0),
    "a box of two": lambda d: d["faces"][0].update(box=[1, 2]),
    "faces that are none": lambda d: d.update(faces=[1, 2]),
    "no photo": lambda d: d.update(photo=None),
    "a head that is a list": lambda d: d.update(head=[]),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_parameters_that_cannot_be_are_one_line(kind: str, tmp_path: Path) -> None:
    head = load_head("openhead")
    document = _document(head)
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(document))
    assert [face.index for face in read_source(path).faces] == [0, 1]  # type: ignore[union-attr]
    SPOILED[kind](document)
    path.write_text(json.dumps(document))
    with pytest.raises(TokenFaceError) as caught:
        [Face.from_dict(entry, document, head) for entry in read_parameters(path)["faces"]]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "..", ".hidden", "", "a/b", "a\\b", "x" * 300])
def test_a_run_is_written_into_its_own_folder(name: str, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(json.dumps({"run": {"name": name, "folder": str(tmp_path / "runs")}}))
    with pytest.raises(ConfigError, match=r"run\.name"):
        train(config, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.yaml"]


_LETTERS = zip("abcdefgh", "bcdefghi", strict=True)
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in _LETTERS)


@pytest.mark.parametrize(
    "text",
    [
        "run: {batch: 1000000000}",
        "run: {batch: -1}",
        "optimiser: {learning_rate: .nan}",
        "optimiser: {learning_rate: .inf}",
        "run: &a {name: *a}",
        "- " * 20_000 + "x",
        LAUGHS,
    ],
)
def test_configurations_that_cannot_be_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        train(tmp_path / "train.yaml", [f"run.folder={tmp_path}"])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="pipes are POSIX's")
def test_a_configuration_is_a_regular_file(tmp_path: Path) -> None:
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(200 * 10**9)
    with pytest.raises(ConfigError, match="more than the limit"):
        read_config(TrainConfig, tmp_path / "large.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are POSIX's")
@pytest.mark.parametrize(
    ("name", "read", "error"),
    [
        ("head.obj", read_obj, HeadModelError),
        ("boxes.json", read_boxes, ConfigError),
        ("summary.json", lambda path: write_report([path.parent], path.with_name("report.html")), EvaluationError),
        ("imagepathsvalidation.txt", lambda path: NowFolder(path.parent).images(), EvaluationError),
    ],
)
def test_texts_are_regular_files(
    name: str, read: Callable[[Path], object], error: type[TokenFaceError], tmp_path: Path
) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with in_time(), pytest.raises(error, match="device, pipe or socket") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n", "the picture of 'a'"),
        ("a.json", b'{"identity": "a"}', "the label of 'a'"),
        ("a.json", b"[" * 100_000, "the label of 'a'"),
        ("a.json", b'{"identity": "a", "landmarks68": [[1, 2]]}', r"shape \[1, 2\]"),
    ],
)
def test_a_tar_of_photos_is_read_like_photos(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    members = {"a.png": photo_bytes(), "a.json": json.dumps({"identity": "a", "landmarks68": [[1, 2]] * 68}).encode()}
    write_tar(tmp_path / "good.tar", members)
    assert [record.identity for record in read_landmark_tar(tmp_path / "good.tar")] == ["a"]
    write_tar(tmp_path / "bad.tar", {**members, name: content})
    with pytest.raises(TokenFaceError, match=message) as caught:
        list(read_landmark_tar(tmp_path / "bad.tar"))
    assert "bad.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no tar at all", b"\x1f\x8b" + bytes(50), None])
def test_what_is_no_tar_of_photos_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    path.write_bytes(content or b"")
    if content is None:
        with path.open("wb") as file:
            file.truncate(200 * 10**9)
    with in_time(), pytest.raises(TokenFaceError, match=r"photos\.tar") as caught:
        list(read_landmark_tar(path))
    assert "\n" not in str(caught.value)


def photo_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 60, 50)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    "entrance", ["photos", "clips", "meshes", "checkpoints", "head models", "parameters", "configurations", "shards"]
)
def test_hostile_files_of_every_entrance_are_read_or_refused_in_one_line(
    entrance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if entrance == "clips":
        pytest.importorskip("av", reason="clips need the extra video")
    (tmp_path / "good").mkdir()
    good, read = DOORS[entrance](tmp_path / "good")
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        spoiled = case(entrance, good, folder, number, seed=7)
        try:
            read(spoiled.path)
        except TokenFaceError as error:
            assert "\n" not in str(error), spoiled.kind  # noqa: PT017
        assert not (folder / MARKER).exists()


def test_the_generator_makes_archives_that_are_archives() -> None:
    with zipfile.ZipFile(io.BytesIO(packed({"a.npy": b"x"}, {"a.npy": 1 << 25}))) as archive:
        assert archive.infolist()[0].file_size == (1 << 25) + 1
