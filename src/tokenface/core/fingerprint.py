"""Dependency fingerprint of an artefact: facts, their hash, and a note file beside it.

Whatever is kept to be used again (predictions, alignments, shards, calibrations, exports, renderings) is used again
only where its facts are still the same: the hashes of the weights, the head model and the inputs, options, versions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenface.core.files import discard, read_marker, write_atomically
from tokenface.core.halves import are_apart, joined

Facts = Mapping[str, Any]
"""Names of what something depends on → hashes, options (dataclasses, too), numbers: anything that JSON can say."""
LENGTH = 32
"""Hexadecimal digits of a fingerprint."""


def fingerprint(facts: Facts) -> str:
    """Digest of the facts; the order of their names does not matter."""
    return hashlib.sha256(_text(facts).encode(errors="surrogateescape")).hexdigest()[:LENGTH]


def content_hash(path: str | os.PathLike) -> str:
    """Digest of a file's content, or of the names and contents in a folder; "" where there is none.

    Remembered in this process for as long as size and time stay the same.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return fingerprint({str(p.relative_to(path)): content_hash(p) for p in files})
    if not path.is_file():
        return ""
    facts = path.stat()
    return _read(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read(path: Path, size: int, changed: int) -> str:
    del size, changed  # part of the memory's key only
    with path.open("rb") as file:
        start = file.read(64)
        if are_apart(start):  # a wheel's weights are those of a clone
            return hashlib.sha256(joined(start + file.read())).hexdigest()[:LENGTH]
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


def note_path(artefact: Path) -> Path:
    """Of the note beside an artefact: `a.ply` → `a.ply.made.json`."""
    return artefact.with_name(f"{artefact.name}.made.json")


def write_note(artefact: Path, facts: Facts) -> Path:
    """Say beside an artefact what it depends on. It comes last: an artefact without its note is made again.

    Raises:
        OutputError: it cannot be written.
    """
    document = {"fingerprint": fingerprint(facts), "depends on": json.loads(_text(facts))}
    return write_atomically(note_path(artefact), (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def remove_note(artefact: Path) -> None:
    """Before an artefact is made again."""
    discard(note_path(artefact))


def is_current(artefact: Path, facts: Facts) -> bool:
    """The artefact is there, and its note says these facts."""
    note = read_marker(note_path(artefact)) if artefact.exists() else None
    return note is not None and note.get("fingerprint") == fingerprint(facts)


def differing(artefact: Path, facts: Facts) -> list[str]:
    """Names of the facts that the note of an artefact says otherwise; all of them where there is no note."""
    said = (read_marker(note_path(artefact)) or {}).get("depends on")
    said = said if isinstance(said, dict) else {}
    now = json.loads(_text(facts))
    return sorted(name for name in {*said, *now} if said.get(name) != now.get(name))


def remove_stale(folder: Path, pattern: str, kept: Iterable[Path]) -> None:
    """Files that an earlier run of other facts left where this one's lie."""
    wanted = {path.resolve() for path in kept}
    for path in folder.glob(pattern):
        if path.is_file() and path.resolve() not in wanted:
            discard(path)


def _text(facts: Facts) -> str:
    return json.dumps(dict(facts), sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a fact cannot be a {type(value).__name__}")
