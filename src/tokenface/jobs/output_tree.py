"""Output folder of a run: one folder per photo, resumable, confined to the root."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tokenface.core.files import (
    PHOTO_MARKER,
    discard,
    is_result_name,
    make_folder,
    output_error,
    read_marker,
    write_atomically,
)
from tokenface.errors import OutputError
from tokenface.formats.parameters import write_parameters
from tokenface.images.loading import ImageItem
from tokenface.inference.face_document import photo_document
from tokenface.inference.result import PhotoResult
from tokenface.jobs.face_files import FaceFiles, write_face, write_overlay

MARKER = PHOTO_MARKER
LONGEST_NAME = 80
WINDOWS_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))]
)


@dataclass(frozen=True)
class Settings(FaceFiles):
    """Settings that the files depend on besides the photo; when it changes, finished photos are done again.

    signature: everything else that matters (weights, options of the reconstruction).
    """

    signature: str = ""

    def hash(self) -> str:
        parts = [sorted(self.formats), self.overlay, self.neutral, self.texture, self.detail, self.signature]
        if self.maps:  # without any, photos that were finished before there were maps stay finished
            parts.append(sorted(self.maps))
        if self.axes is not None:
            parts.append(str(self.axes))
        if self.texture_format != "png":
            parts.append(self.texture_format)
        if self.hair:
            parts.append("hair")
        if self.rounded is not None:
            parts.append(f"rounded {self.rounded}")
        text = json.dumps(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class OutputTree:
    """`<root>/<photo>/face_00.glb …, parameters.json, overlay.png` for every photo of a run.

    A photo keeps its folder between runs; photos of the same name get folders of different names.

    Raises:
        OutputError: the root cannot be made.
    """

    def __init__(self, root: str | Path, settings: Settings, overwrite: bool = False) -> None:
        self.root = make_folder(root).resolve()
        if not os.access(self.root, os.W_OK):
            raise output_error(self.root, PermissionError(errno.EACCES, "no permission"))
        self.settings = settings
        self.overwrite = overwrite
        self._taken: dict[str, str] = {}  # folder in lower case (for file systems that ignore it) → photo

    def folder(self, item: ImageItem) -> Path:
        """The photo's folder (it may not exist yet): its name, else its name with the suffix, else with a hash.

        Raises:
            OutputError: the folder would lie outside the root (a symbolic link leads there).
        """
        owner = _identity(item)
        parts = [safe_name(part) for part in PurePosixPath(item.name).parts if part not in ("/", "..", ".")]
        *parents, stem = parts or ["photo"]
        suffix = Path(os.fspath(item.source)).suffix[1:] if isinstance(item.source, str | os.PathLike) else ""
        names = [stem, f"{stem}_{safe_name(suffix)}" if suffix else stem, f"{stem}_{owner[:8]}"]
        for name in names:
            folder = self.root.joinpath(*parents, name)
            key = str(folder.relative_to(self.root)).casefold()
            if self._taken.get(key, owner) == owner and self._free(folder, owner):
                self._taken[key] = owner
                self._inside(folder)
                return folder
        raise OutputError(f"'{self.root / stem}' is not ours to write in; choose another folder with -o")

    def done(self, item: ImageItem) -> bool:
        """Whether this photo, unchanged, was finished before with these settings and all its files are there."""
        if self.overwrite:
            return False
        folder = self.folder(item)
        marker = read_marker(folder / MARKER)
        return (
            marker is not None
            and marker.get("state") == "done"
            and marker.get("settings") == self.settings.hash()
            and marker.get("photo_state") == _state(item)
            and all((folder / name).is_file() for name in marker.get("files", []))
        )

    def write(self, result: PhotoResult) -> list[Path]:
        """Write one photo's results.

        Raises:
            OutputError: a file cannot be written.
        """
        if not result.faces:
            return []
        paths: list[Path] = []
        with self.renewed(self.folder(result.item), result.item) as folder:
            for face in result.faces:
                paths += write_face(folder, face, result.image, self.settings)
            if "json" in self.settings.formats:
                name = _file_name(result.item)
                paths.append(write_parameters(folder / "parameters.json", photo_document(result.faces, name)))
            if self.settings.overlay and result.image is not None:
                paths.append(write_overlay(folder, result.faces, result.image))
        return paths

    @contextmanager
    def renewed(self, folder: Path, item: ImageItem) -> Iterator[Path]:
        """The picture's folder without the files of an earlier run, to write into; the marker comes last, so that a
        broken run is seen as one.

        Raises:
            OutputError: it cannot be made, lies outside the root, or holds another picture's results.
        """
        make_folder(folder)
        self._inside(folder)
        marker = read_marker(folder / MARKER)
        if marker is not None:
            if marker.get("owner") != _identity(item):
                raise OutputError(f"'{folder}' holds the results of another photo; choose another folder with -o")
            _clear(folder)
        self._mark(folder, item, "started", [])
        yield folder
        self._mark(folder, item, "done", sorted(path.name for path in folder.iterdir() if is_result_name(path.name)))

    def _mark(self, folder: Path, item: ImageItem, state: str, files: Sequence[str]) -> None:
        marker = {
            "photo": _file_name(item),
            "owner": _identity(item),
            "photo_state": _state(item),
            "settings": self.settings.hash(),
            "state": state,
            "files": list(files),
        }
        write_atomically(folder / MARKER, json.dumps(marker, indent=1).encode())

    def _free(self, folder: Path, owner: str) -> bool:
        """A folder is ours to use when it is not there, is empty, or carries our marker for the same photo."""
        try:
            if not folder.exists():
                return True
            marker = read_marker(folder / MARKER)
            if marker is not None:
                return marker.get("owner") == owner
            # Folders of photos below this one may stand in it already (photo.jpg beside photo/other.jpg).
            return folder.is_dir() and not any(path.is_file() for path in folder.iterdir())
        except OSError as error:
            raise output_error(folder, error) from error

    def _inside(self, folder: Path) -> None:
        if not folder.resolve().is_relative_to(self.root):
            raise OutputError(f"'{folder}' leads outside the output folder '{self.root}'; remove that link")


def _clear(folder: Path) -> None:
    """Files of an earlier run would mix with the new ones: fewer faces, other formats."""
    try:
        for path in folder.iterdir():
            if is_result_name(path.name) and path.is_file():
                discard(path)
    except OSError as error:
        raise output_error(folder, error) from error


def safe_name(name: str) -> str:
    """One component of a path that every file system takes: letters, digits, blanks and `_-.()`, not too long."""
    name = unicodedata.normalize("NFC", name)
    name = re.sub(r"[^\w .()+-]", "_", name).strip(" .")
    if len(name.encode()) > LONGEST_NAME:
        ending = "_" + hashlib.sha256(name.encode()).hexdigest()[:8]
        name = name.encode()[: LONGEST_NAME - len(ending)].decode(errors="ignore").rstrip(" .") + ending
    if name.split(".")[0].casefold() in WINDOWS_NAMES:
        name = f"_{name}"
    return name or "photo"


def _identity(item: ImageItem) -> str:
    """Which photo this is: hashed, since a path does not belong in a result."""
    return hashlib.sha256(item.identity.encode(errors="surrogateescape")).hexdigest()[:16]


def _state(item: ImageItem) -> str | None:
    """Size and time of the photo's file: a changed photo is done again. None for pictures from memory."""
    if not isinstance(item.source, str | os.PathLike):
        return None
    try:
        status = Path(item.source).expanduser().stat()
    except OSError:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"


def _file_name(item: ImageItem) -> str:
    return Path(os.fspath(item.source)).name if isinstance(item.source, str | os.PathLike) else item.name
