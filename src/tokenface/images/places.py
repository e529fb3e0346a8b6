"""Folders and buckets: photo sources and table targets, local or behind a URL.

`s3://`, `gs://`, `abfs://`, `hdfs://` and `file://` are pyarrow's own; any other scheme (`hf://`, `memory://`, …) is
fsspec's, where that package knows it.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenface.core.files import names_without_results, read_regular, write_atomically
from tokenface.errors import ConfigError, ImageError, OutputError, TokenFaceError
from tokenface.images.loading import IMAGE_SUFFIXES, MAX_BYTES, MAX_PIXELS, ImageItem, load_image

if TYPE_CHECKING:
    from pyarrow import fs as arrow_fs

OBJECT_STORES = ("s3", "gcs", "abfs")
"""A file appears there when it is complete, so it needs no other name first."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One photo of a place. name: below the place, with its suffix.  size, modified: what says that it changed."""

    name: str
    size: int
    modified: int


@dataclass(frozen=True)
class Place:
    """A folder by path or URL. Picklable: each process opens its own connection.

    Raises (every method):
        ConfigError: a scheme nobody knows, or pyarrow is missing.
    """

    address: str

    @property
    def local(self) -> bool:
        return "://" not in self.address

    @property
    def label(self) -> str:
        """The address for messages: without options and without keys."""
        return re.sub(r"(?<=://)[^/@]*@", "", self.address.split("?")[0] if not self.local else self.address)

    def pictures(self, recursive: bool = False) -> list[Picture]:
        """Photos by suffix, in the order of their names; hidden ones are left out.

        Raises:
            ImageError: no such folder, not reachable, or nothing in it.
        """
        from pyarrow import fs

        system, root = self._open()
        try:
            found = system.get_file_info(fs.FileSelector(root, recursive=recursive))
        except OSError as error:
            raise ImageError(f"cannot list '{self.label}' ({_reason(error)})") from error
        pictures = []
        names = {posixpath.relpath(entry.path, root): entry for entry in found}
        for name in names_without_results(names, names):
            entry = names[name]
            hidden = any(part.startswith(".") for part in name.split("/"))
            if entry.type == fs.FileType.File and not hidden and posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                pictures.append(Picture(name, entry.size or 0, entry.mtime_ns or 0))
        if not pictures:
            hint = "" if recursive else "; use --recursive to search below it"
            raise ImageError(f"no pictures in '{self.label}'{hint}")
        return sorted(pictures, key=lambda picture: picture.name)

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        if self.local:
            return read_regular(Path(self.address) / name, MAX_BYTES)
        system, root = self._open()
        with system.open_input_stream(posixpath.join(root, name)) as stream:
            data: bytes = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_BYTES >> 20} MB", name)
        return data

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """A file to read parts of: behind a URL nothing else of it is fetched. Raises OSError."""
        if self.local:
            yield io.BytesIO(self.read(name))
            return
        system, root = self._open()
        with system.open_input_file(posixpath.join(root, name)) as file:
            yield file

    def item(self, picture: Picture) -> ImageItem:
        """The photo, to be read when its turn comes."""
        return _RemoteItem(picture.name, self.address)

    def write(self, name: str, data: bytes) -> None:
        """A whole file or none.

        Raises:
            OutputError: not writable.
        """
        if self.local:
            write_atomically(Path(self.address) / name, data)
            return
        system, root = self._open()
        path = posixpath.join(root, name)
        part = path if system.type_name in OBJECT_STORES else posixpath.join(root, f".{name}.part")
        try:
            with self._made(system, root), system.open_output_stream(part) as stream:
                stream.write(data)
            if part != path:
                system.move(part, path)
        except OSError as error:
            raise OutputError(f"cannot write '{self.label}/{name}' ({_reason(error)})") from error

    def names(self) -> list[str]:
        """Files at this place; none where there is no such folder yet."""
        from pyarrow import fs

        system, root = self._open()
        try:
            found = system.get_file_info(fs.FileSelector(root, allow_not_found=True))
        except OSError as error:
            raise OutputError(f"cannot list '{self.label}' ({_reason(error)})") from error
        return sorted(posixpath.basename(entry.path) for entry in found if entry.type == fs.FileType.File)

    def remove(self, name: str) -> None:
        """Raises OutputError."""
        system, root = self._open()
        try:
            system.delete_file(posixpath.join(root, name))
        except OSError as error:
            raise OutputError(f"cannot remove '{self.label}/{name}' ({_reason(error)})") from error

    def _open(self) -> tuple[arrow_fs.FileSystem, str]:
        """The file system and the folder's path on it, kept for this process."""
        if self.address not in _opened:
            _opened[self.address] = _connect(self.address)
        return _opened[self.address]

    @contextmanager
    def _made(self, system: arrow_fs.FileSystem, root: str) -> Iterator[None]:
        if system.type_name not in OBJECT_STORES:
            system.create_dir(root, recursive=True)
        yield


@dataclass(frozen=True)
class _RemoteItem(ImageItem):
    """`source` is the address of the place, `name` the photo's below it."""

    def load(self, max_pixels: int = 0) -> Any:
        try:
            data = Place(str(self.source)).read(self.name)
        except OSError as error:
            raise ImageError(f"cannot read '{self.name}' ({_reason(error)})") from error
        return load_image(data, max_pixels or MAX_PIXELS, encoded=f"'{self.name}'")


_opened: dict[str, tuple[Any, str]] = {}


def _connect(address: str) -> tuple[Any, str]:
    fs = _arrow_file_systems()
    if "://" not in address:
        return fs.LocalFileSystem(), Path(address).expanduser().absolute().as_posix()
    try:
        return fs.FileSystem.from_uri(_in_one_request(address.rstrip("/")))
    except (ValueError, OSError) as error:
        known = _by_fsspec(address)
        if known is None:
            raise ConfigError(f"'{Place(address).label}' cannot be opened ({_reason(error)})") from error
        return known


def _in_one_request(address: str) -> str:
    """S3 in multipart uploads takes three requests a table, which is small; this option makes them one."""
    if not address.startswith("s3://") or "allow_delayed_open" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"


def _by_fsspec(address: str) -> tuple[Any, str] | None:
    try:
        import fsspec
        from pyarrow import fs

        system, path = fsspec.core.url_to_fs(address)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except (ImportError, ValueError, OSError):
        return None


def _arrow_file_systems() -> Any:
    """`pyarrow.fs`, or one line that says how to get it."""
    try:
        from pyarrow import fs
    except ImportError as error:
        raise ConfigError("tables need pyarrow; run pip install 'tokenface[tables]'") from error
    return fs


def place_of(source: str | os.PathLike) -> Place:
    """A path or URL as a place.

    Raises:
        ConfigError: as `Place`.  TokenFaceError: a single file, where a folder is needed.
    """
    text = os.fspath(source)
    place = Place(text if "://" in text else str(Path(text).expanduser().absolute()))
    if place.local and Path(place.address).is_file():
        raise TokenFaceError(f"'{text}' is a file; tables are made of a folder or a bucket of photos")
    place._open()
    return place


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
