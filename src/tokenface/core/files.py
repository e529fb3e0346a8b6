"""Files: regular ones only, of known size; atomic writes; markers of earlier runs' results."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NoReturn

from tokenface.errors import OutputError

GIGABYTE = 1 << 30
MAX_TEXT = 64 << 20
"""Bytes of a JSON or YAML file."""
MAX_DEPTH = 100
"""Levels of nesting in a JSON document."""


def check_regular(path: str | os.PathLike, limit: int) -> int:
    """Size of a regular file in bytes, or of what a link leads to; nothing is opened, so nothing can block.

    Args:
        limit: bytes that are still accepted.
    Raises:
        OSError: missing, a folder, a device, pipe or socket, or larger than `limit`; `strerror` says which.
    """
    return _accepted(os.stat(path), path, limit)


def read_regular(path: str | os.PathLike, limit: int) -> bytes:
    """Content of a regular file.

    Raises:
        OSError: as `check_regular`, or the file cannot be read.
    """
    check_regular(path, limit)
    # What the name leads to may have been exchanged since: opened without waiting, and looked at again.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        _accepted(os.fstat(file.fileno()), path, limit)
        data = file.read(limit + 1)
    if len(data) > limit:  # files of /proc say 0 and grow
        raise _too_large(len(data), path, limit)
    return data


def read_text(path: str | os.PathLike, limit: int = MAX_TEXT) -> str:
    """Content of a UTF-8 file.

    Raises:
        OSError: as `read_regular`.  ValueError: not UTF-8.
    """
    return read_regular(path, limit).decode("utf-8")


def read_json(path: str | os.PathLike, limit: int = MAX_TEXT) -> Any:
    """Document of a JSON file, as `parse_json`.

    Raises:
        OSError: as `read_regular`.  ValueError: as `parse_json`.
    """
    return parse_json(read_regular(path, limit))


def parse_json(text: str | bytes) -> Any:
    """JSON without NaN or infinity (RFC 8259 knows neither), of bounded depth.

    Raises:
        ValueError: not JSON, not finite, nested deeper than `MAX_DEPTH`, numbers of thousands of digits.
    """
    try:
        document = json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _depth(document) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return document


def _accepted(status: os.stat_result, path: str | os.PathLike, limit: int) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device, pipe or socket, expected a file", os.fspath(path))
    if status.st_size > limit:
        raise _too_large(status.st_size, path, limit)
    if status.st_size > GIGABYTE and getattr(status, "st_blocks", status.st_size) * 512 < status.st_size // 10:
        raise OSError(errno.EINVAL, "it is mostly holes, expected a file with content", os.fspath(path))
    return status.st_size


def _too_large(size: int, path: str | os.PathLike, limit: int) -> OSError:
    reason = f"it has {size / 1e6:,.1f} MB, more than the limit of {limit / 1e6:,.1f}"
    return OSError(errno.EFBIG, reason, os.fspath(path))


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) != float("inf") else _not_finite(digits)


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"the number {name[:20]} is not finite")


def _depth(document: Any) -> int:
    level, depth = [document], 0
    while level := [child for part in level if isinstance(part, dict | list) for child in _children(part)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
    return depth


def _children(part: dict | list) -> Any:
    return part.values() if isinstance(part, dict) else part


def reason(error: BaseException) -> str:
    """One line for a message: what the operating system or a parser said."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def file_size(path: Path) -> int:
    """Bytes; 0 where nothing lies."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path`, or leave what was there untouched.

    Raises:
        OutputError: no permission, disk full, a folder in the way, a name that the file system refuses.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            # Some file systems report a full disk only when the data is really written.
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        discard(part)
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `.part` file to fill; it becomes `path` when the block ends well and is gone when it does not.

    Raises:
        OutputError: as `write_atomically`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        discard(part)


def read_marker(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of our own; None where there is none that can be read."""
    try:
        marker = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return marker if isinstance(marker, dict) else None


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents; `~` is the user's home.

    Raises:
        OutputError: no permission, a file in the way, disk full.
    """
    path = Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def separate_folder(folder: str | Path, sources: Iterable[str | Path]) -> Path:
    """`make_folder` for files that are made of other files, whose names they may have.

    Raises:
        OutputError: as `make_folder`; a source lies in the folder, or the folder holds a photo's or clip's results.
    """
    folder = make_folder(folder)
    place = folder.resolve()
    with_source = place in {Path(source).expanduser().resolve().parent for source in sources}
    in_clip = _PERSON.fullmatch(place.name) and (place.parent / CLIP_MARKER).is_file()
    if with_source or in_clip or any((place / marker).is_file() for marker in (PHOTO_MARKER, CLIP_MARKER)):
        raise OutputError(f"files in '{folder}' would be overwritten; choose another folder with -o")
    return folder


def output_error(path: Path, error: OSError) -> OutputError:
    """The operating system's refusal as one line that says how to mend it."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again (finished photos are kept)",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "no permission to write there; choose another folder with -o",
        errno.EPERM: "no permission to write there; choose another folder with -o",
        errno.EROFS: "the file system is read-only; choose another folder with -o",
        errno.EISDIR: "a folder has that name; choose another name",
        errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with -o",
        errno.EEXIST: "a file has that name; choose another folder with -o",
        errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    }.get(error.errno or 0, (error.strerror or str(error)).lower())
    return OutputError(f"cannot write '{path}': {advice}")


def discard(path: Path) -> None:
    """Remove a file if it is there; a failure to tidy up must not hide the error that led here."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


PHOTO_MARKER = ".tokenface.json"
"""In every photo's folder of results: which photo it belongs to, what was written, with which settings."""
CLIP_MARKER = ".tokenface-track.json"
"""In every clip's."""
_PICTURE = re.compile(
    r"overlay\.png|parameters\.json|face_\d+(_neutral)?\.(glb|vrm|obj|mtl|png|ply|stl)|face_\d+_maps\.npz"
    r"|face_\d+_(depth|normals|uv|pncc|parts|cutout|axes|points68|points468|normal|displacement)\.png"
)
_PERSON = re.compile(r"person_\d+")
_CLIP = re.compile(
    r"track\.json|overlay\.mp4"
    r"|person_\d+/(parameters\.(csv|npz)|animation\.(glb|usdz)|obj/frame_\d+\.(obj|mtl|png))"
)


def is_result_name(name: str) -> bool:
    """Whether files of that name are written for a photo."""
    return _PICTURE.fullmatch(name) is not None


def is_clip_result_name(name: str) -> bool:
    """Whether files of that name, with slashes below the clip's folder, are written for a clip."""
    return _CLIP.fullmatch(name) is not None


def without_results(paths: Iterable[Path]) -> list[Path]:
    """The paths that no earlier run wrote."""
    return [path for path in paths if not _is_result(path, lambda marker: Path(marker).is_file())]


def names_without_results(names: Iterable[str], all_names: Iterable[str]) -> list[str]:
    """The same for names with slashes, of which all in the place are known."""
    there = set(all_names)
    return [name for name in names if not _is_result(PurePosixPath(name), lambda marker: str(marker) in there)]


def _is_result(path: PurePath, exists: Callable[[PurePath], bool]) -> bool:
    if is_result_name(path.name) and exists(path.parent / PHOTO_MARKER):
        return True
    return any(_PERSON.fullmatch(above.name) and exists(above.parent / CLIP_MARKER) for above in path.parents)
