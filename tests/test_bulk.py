"""Photos by the thousand into tables: what is in them, resuming, buckets, what a lost worker leaves."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

pytest.importorskip("pyarrow", reason="needs the extra 'tables'")

from tokenface.cli import run
from tokenface.cli.console import SOME_FAILED, USAGE
from tokenface.errors import ConfigError, DataError, ImageError, OutputError, TokenFaceError
from tokenface.head.model import HeadModel
from tokenface.images.loading import load_image
from tokenface.images.places import Place, place_of
from tokenface.images.remote import collect_photos
from tokenface.jobs.bulk import shard as bulk_shard
from tokenface.jobs.bulk.run import BulkRun
from tokenface.jobs.bulk.shard import BulkOptions, divide
from tokenface.jobs.bulk.table import columns, decode, faces


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


@pytest.fixture
def photos(tmp_path) -> Path:
    """Five pictures: two faces, one, none, one; and one that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    boxes = [[(10, 10, 40), (90, 40, 50)], [(60, 40, 40)], [], [(20, 30, 60)]]
    for number, marks in enumerate(boxes):
        Image.fromarray(photo_with_marks(*marks)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not a photo", encoding="utf-8")
    return folder


@pytest.fixture
def loads(head, monkeypatch) -> list:
    """The stand-in model in place of the shipped one; counts how often it is loaded."""
    loaded: list = []

    def load(*_):
        loaded.append(1)
        return stand_in_model(head)

    monkeypatch.setattr(bulk_shard.Reconstructor, "load", load)
    return loaded


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("form", ["parquet", "npz"])
def test_a_table_holds_every_face_and_every_photo_without_one(photos, tmp_path, head, loads, form):
    work = BulkRun(photos, tmp_path / "out", BulkOptions(form, per_shard=3))
    reports = list(work)
    assert [report.photos for report in reports] == [3, 2]
    assert (work.report.done, work.report.faces, work.report.without_face, work.report.failed) == (3, 4, 1, 1)
    assert [name for name, _ in work.report.failures] == ["broken.jpg"]
    found = tables(tmp_path / "out")
    assert list(found) == [f"faces-000000.{form}", f"faces-000001.{form}"]
    first, facts = decode(found[f"faces-000000.{form}"], f"a.{form}")
    assert first["photo"].tolist() == ["0.png", "0.png", "1.png", "2.png"]
    assert first["status"].tolist() == ["done", "done", "done", "no_face"]
    assert first["face"].tolist() == [0, 1, 0, -1]
    assert facts["head"]["geometry_hash"] == head.data.geometry_hash()
    second, _ = decode(found[f"faces-000001.{form}"], f"a.{form}")
    assert second["status"].tolist() == ["done", "failed"]
    assert "broken.jpg" in second["error"][1]


@pytest.mark.parametrize("form", ["parquet", "npz"])
def test_rows_come_back_as_the_faces_they_were(photos, tmp_path, head, loads, form):
    list(BulkRun(photos, tmp_path / "out", BulkOptions(form)))
    expected = [face for name in ("0", "1", "3") for face in stand_in_model(head).reconstruct(photos / f"{name}.png")]
    table, facts = decode((tmp_path / "out" / f"faces-000000.{form}").read_bytes(), f"x.{form}")
    restored = list(faces(table, facts, head))
    assert len(restored) == len(expected) == 4
    for face, other in zip(restored, expected, strict=True):
        np.testing.assert_array_equal(face.vertices, other.vertices)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=1e-4)
        assert face.confidence == pytest.approx(other.confidence, abs=1e-6)
    restored[0].save(tmp_path / "again.glb")
    rows = table["face"] >= 0
    for row, face in zip(table["orthographic"][rows], restored, strict=True):
        points = face.landmarks3d @ row.reshape(2, 4)[:, :3].T + row.reshape(2, 4)[:, 3]
        np.testing.assert_allclose(points, face.landmarks, atol=1e-6)


def test_another_head_model_is_refused(photos, tmp_path, loads):
    list(BulkRun(photos, tmp_path / "out"))
    table, facts = decode((tmp_path / "out" / "faces-000000.parquet").read_bytes(), "x.parquet")
    with pytest.raises(TokenFaceError, match="belong to head model"):
        next(faces(table, facts, HeadModel(toy_head_data(seed=5))))


def test_a_second_run_does_only_what_changed(photos, tmp_path, loads):
    options = BulkOptions(per_shard=2)
    list(BulkRun(photos, tmp_path / "out", options))
    before = tables(tmp_path / "out")
    again = BulkRun(photos, tmp_path / "out", options)
    assert [report.skipped for report in again] == [True, True, True]
    assert (again.report.faces, again.report.without_face, again.report.failed) == (4, 1, 1)  # the tables remember
    assert len(loads) == 1  # nothing to do: the network is not even loaded
    assert tables(tmp_path / "out") == before
    (tmp_path / "out" / "faces-000001.parquet").write_bytes(before["faces-000001.parquet"][:100])  # cut by a crash
    assert [report.skipped for report in BulkRun(photos, tmp_path / "out", options)] == [True, False, True]
    assert tables(tmp_path / "out") == before
    Image.fromarray(photo_with_marks((5, 5, 30))).save(photos / "0.png")
    assert [report.skipped for report in BulkRun(photos, tmp_path / "out", options)] == [False, True, True]


def test_other_settings_and_overwrite_do_it_again(photos, tmp_path, loads):
    list(BulkRun(photos, tmp_path / "out"))
    assert not any(report.skipped for report in BulkRun(photos, tmp_path / "out", BulkOptions(max_faces=1)))
    assert not any(
        report.skipped for report in BulkRun(photos, tmp_path / "out", BulkOptions(max_faces=1, overwrite=True))
    )


def test_tables_of_an_earlier_larger_run_are_removed(photos, tmp_path, loads):
    list(BulkRun(photos, tmp_path / "out", BulkOptions(per_shard=1)))
    (tmp_path / "out" / "mine.parquet").write_bytes(b"kept")
    list(BulkRun(photos, tmp_path / "out", BulkOptions(per_shard=3)))
    assert sorted(tables(tmp_path / "out")) == ["faces-000000.parquet", "faces-000001.parquet", "mine.parquet"]


def test_nothing_half_written_is_left(photos, tmp_path, loads, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="disk is full"):
        list(BulkRun(photos, tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_subfolders_hidden_files_and_order(photos, tmp_path):
    (photos / "b").mkdir()
    shutil.copy(photos / "0.png", photos / "b" / "9.PNG")
    shutil.copy(photos / "0.png", photos / ".hidden.png")
    flat, deep = (place_of(photos).pictures(recursive) for recursive in (False, True))
    assert [picture.name for picture in flat] == ["0.png", "1.png", "2.png", "3.png", "broken.jpg"]
    assert [picture.name for picture in deep] == ["0.png", "1.png", "2.png", "3.png", "b/9.PNG", "broken.jpg"]
    assert [len(part.pictures) for part in divide(deep, 4)] == [4, 2]


def test_bad_places_and_tables_are_explained(photos, tmp_path):
    with pytest.raises(ConfigError, match="cannot be opened"):
        place_of("nowhere://bucket/x")
    assert Place("s3://key:secret@bucket/x?region=eu").label == "s3://bucket/x"
    with pytest.raises(ImageError, match="cannot list"):
        place_of(tmp_path / "none").pictures()
    with pytest.raises(ImageError, match="no pictures"):
        place_of(tmp_path).pictures()
    with pytest.raises(TokenFaceError, match="is a file"):
        place_of(photos / "0.png")
    with pytest.raises(ConfigError, match="parquet or npz"):
        BulkRun(photos, tmp_path / "out", BulkOptions("csv"))
    for name in ("a.parquet", "a.npz"):
        with pytest.raises(DataError, match="no table of faces"):
            decode(b"PAR1 nonsense", name)


def test_photos_of_a_table_are_given_up_once_they_are_done(photos, tmp_path, loads, monkeypatch):
    kept = []
    monkeypatch.setattr(bulk_shard, "columns", lambda found, head: kept.extend(found) or columns(found, head))
    list(BulkRun(photos, tmp_path / "out", BulkOptions()))
    assert kept
    assert all(result.image is None for result in kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-f", "parquet", "--hair", "--units", "mm"), "tables know no --hair, --units"),
        (("-f", "npz", "--no-overlay", "--same-person"), "tables know no --same-person"),
        (("--workers", "2"), "--workers is for tables"),
    ],
    ids=" ".join,
)
def test_options_that_would_do_nothing_are_refused(photos, tmp_path, capsys, arguments, said):
    assert run(["reconstruct", str(photos), "-o", str(tmp_path / "out"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_counts_and_reports(photos, tmp_path, loads, capsys):
    assert run(["reconstruct", str(photos), "-o", str(tmp_path / "out"), "--format", "npz"]) == SOME_FAILED
    text = capsys.readouterr()
    assert "broken.jpg" in text.err
    assert ["photos", "5"] in [line.split() for line in text.out.splitlines()]
    assert (tmp_path / "out" / "faces-000000.npz").is_file()
    assert run(["reconstruct", str(photos), str(photos), "--format", "parquet"]) == USAGE


def test_fsspec_schemes_work(photos, loads):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in photos.iterdir():
        memory.pipe(f"/in/{path.name}", path.read_bytes())
    work = BulkRun("memory://in", "memory://out", BulkOptions(per_shard=3))
    assert [report.faces for report in work] == [3, 1]
    assert Place("memory://out").names() == ["faces-000000.parquet", "faces-000001.parquet"]
    assert [report.skipped for report in BulkRun("memory://in", "memory://out", BulkOptions(per_shard=3))] == [
        True,
        True,
    ]


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server of our own on loopback."""
    command = shutil.which("moto_server")
    if command is None:
        pytest.skip("needs moto's server on the PATH (pip install 'moto[server]')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([command, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    end = time.monotonic() + 60
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None or time.monotonic() > end:
                pytest.skip("moto's server does not start here")
            time.sleep(0.2)
        yield f"scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
    finally:
        server.kill()  # it keeps nothing, and waits for open connections when it is only asked to end
        server.wait(60)


def test_a_bucket_in_and_a_bucket_out(photos, tmp_path, loads, bucket):
    from pyarrow import fs

    system, _ = fs.FileSystem.from_uri(f"s3://photos?{bucket}")
    for name in ("photos", "tables"):
        system.create_dir(name)
    source, output = Place(f"s3://photos/people?{bucket}"), Place(f"s3://tables/people?{bucket}")
    for path in photos.iterdir():
        source.write(path.name, path.read_bytes())
    work = BulkRun(source.address, output.address, BulkOptions(per_shard=3))
    assert [report.faces for report in work] == [3, 1]
    assert output.names() == ["faces-000000.parquet", "faces-000001.parquet"]
    again = BulkRun(source.address, output.address, BulkOptions(per_shard=3))
    assert [report.skipped for report in again] == [True, True]


def test_a_finished_table_behind_a_url_is_known_by_its_end(photos, loads, tmp_path, monkeypatch):
    """A run of many tables that is started again must not fetch them all."""
    address = f"file://{tmp_path / 'tables'}"
    assert not any(report.skipped for report in BulkRun(photos, address, BulkOptions(per_shard=3)))
    read = Place.read

    def photos_alone(place: Place, name: str) -> bytes:
        assert not name.endswith(".parquet"), "a table was read whole"
        return read(place, name)

    monkeypatch.setattr(Place, "read", photos_alone)
    assert all(report.skipped for report in BulkRun(photos, address, BulkOptions(per_shard=3)))


def test_photos_of_an_s3_bucket_are_read_one_by_one_and_all(photos, bucket):
    from pyarrow import fs

    fs.FileSystem.from_uri(f"s3://album?{bucket}")[0].create_dir("album")
    place, names = Place(f"s3://album/people?{bucket}"), sorted(path.name for path in photos.iterdir())
    for name in names:
        place.write(name, (photos / name).read_bytes())
    readable = {path.name: path for path in photos.iterdir() if path.name in {p.name for p in place.pictures(False)}}
    all_of_them = collect_photos(f"s3://album/people?{bucket}")
    assert [item.name for item in all_of_them] == [Path(name).stem for name in sorted(readable)]
    name = next(n for n in sorted(readable) if n.endswith(".png"))
    (alone,) = collect_photos(f"s3://album/people/{name}?{bucket}")
    np.testing.assert_array_equal(alone.load(), load_image(readable[name]))
    (absent,) = collect_photos(f"s3://album/people/absent.png?{bucket}")
    with pytest.raises(ImageError, match=r"absent\.png") as caught:
        absent.load()
    assert "endpoint" not in str(caught.value)  # options of the address may be keys
