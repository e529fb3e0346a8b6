"""Shard index: a small JSON beside each tar, rebuilt from the tar when missing or stale."""

from __future__ import annotations

import builtins
import json
import tarfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenface.core.files import write_atomically
from tokenface.data.shards.members import facts_of
from tokenface.errors import DataError
from tokenface.head.registry import list_heads

VERSION = 1
MAX_MEMBER_BYTES = 64 << 20
MAX_INDEX_BYTES = 256 << 20


@dataclass(frozen=True)
class Entry:
    """One record of a shard. members: extension → (offset of its bytes in the tar, their number).  head: whose vertices
    its geometry has, `geometry_hash`; "" without geometry, and in an index of an older version."""

    key: str
    kind: str
    identity: str
    dataset: str
    pictures: int
    neutral: bool | None  # None: no geometry
    members: dict[str, tuple[int, int]]
    head: str = ""


@dataclass(frozen=True)
class ShardIndex:
    """path: the tar.  entries: in the order of the tar.  defects: (name, reason) of what cannot be a record.
    rejected: (source, reason) of what preparation left out on purpose.  signature: settings that made the shard."""

    path: Path
    entries: tuple[Entry, ...]
    defects: tuple[tuple[str, str], ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    signature: str = ""
    bytes: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def save(self) -> Path:
        """Write the index beside the tar, atomically."""
        content = {
            "version": VERSION,
            "bytes": self.bytes,
            "signature": self.signature,
            "entries": [vars(entry) for entry in self.entries],
            "troubles": self.defects,
            "rejected": self.rejected,
            "failed": self.failed,
            "extra": self.extra,
        }
        return write_atomically(index_path(self.path), json.dumps(content, ensure_ascii=False).encode())

    def read(self, entry: Entry) -> dict[str, builtins.bytes]:
        """The members of one record.

        Raises:
            DataError: the tar is gone, shorter than the index says, or unreadable there.
        """
        members = {}
        try:
            with self.path.open("rb") as file:
                for name, (offset, size) in entry.members.items():
                    file.seek(offset)
                    members[name] = file.read(size)
                    if len(members[name]) != size:
                        raise DataError(f"shard '{self.path.name}' ends before record '{entry.key}' does")
        except OSError as error:
            raise DataError(f"cannot read shard '{self.path}' ({error.strerror or error})") from error
        return members

    def heads(self) -> frozenset[str]:
        """`geometry_hash` of the head models that its geometry belongs to; an index of an older version has them from
        the first record with geometry."""
        scans = [entry for entry in self.entries if entry.neutral is not None]
        known = frozenset(entry.head for entry in scans if entry.head)
        if known or not scans:
            return known
        try:
            return frozenset({str(facts_of(self.read(scans[0]))["head"])})
        except (DataError, KeyError, ValueError, TypeError):
            return frozenset()  # damaged: met, and said, when the record is drawn


def index_path(tar: Path) -> Path:
    return tar.with_suffix(".index.json")


def load_index(tar: Path) -> ShardIndex:
    """The index beside a tar if it fits the tar, else one made from the tar itself (of any WebDataset writer).

    Raises:
        DataError: no such tar.
    """
    if not tar.is_file():
        raise DataError(f"no shard at '{tar}'")
    saved = _saved(tar)
    return saved if saved is not None else scan(tar)


def _saved(tar: Path) -> ShardIndex | None:
    path = index_path(tar)
    try:
        if not path.is_file() or path.stat().st_size > MAX_INDEX_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION or content["bytes"] != tar.stat().st_size:
            return None
        entries = tuple(
            Entry(**{**entry, "members": {k: (int(a), int(b)) for k, (a, b) in entry["members"].items()}})
            for entry in content["entries"]
        )
        limit = content["bytes"]
        if any(a < 0 or b < 0 or b > MAX_MEMBER_BYTES or a + b > limit for e in entries for a, b in e.members.values()):
            return None
        return ShardIndex(
            tar,
            entries,
            _pairs(content["troubles"]),
            _pairs(content["rejected"]),
            _pairs(content["failed"]),
            str(content["signature"]),
            limit,
            dict(content["extra"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _pairs(rows: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(a), str(b)) for a, b in rows)


def scan(tar: Path) -> ShardIndex:
    """Read the headers and the JSON members of a tar; whatever does not fit is a defect, not an error."""
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    defects: list[tuple[str, str]] = []
    size = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                key, _, extension = Path(member.name).name.partition(".")
                if member.size > MAX_MEMBER_BYTES:
                    defects.append((member.name, f"larger than {MAX_MEMBER_BYTES >> 20} MB"))
                elif member.offset_data + member.size > size:
                    defects.append((member.name, "the shard ends inside it"))
                else:
                    groups.setdefault(key, {})[extension.lower()] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        defects.append((tar.name, f"not a readable tar from here on ({error})"))
    except OSError as error:
        defects.append((tar.name, f"cannot be read ({error.strerror or error})"))
    entries = []
    with tar.open("rb") as file:
        for key, members in groups.items():
            try:
                offset, length = members["json"]
                file.seek(offset)
                entries.append(Entry(key=key, members=members, **facts_of({"json": file.read(length)})))
            except KeyError as error:
                defects.append((key, f"no {error} member"))
            except (ValueError, TypeError, RecursionError) as error:
                defects.append((key, f"its json is damaged ({str(error)[:80]})"))
    return ShardIndex(tar, tuple(entries), tuple(defects), bytes=size)


def check_heads(shards: Iterable[ShardIndex], geometry_hash: str, datasets: Collection[str] = ()) -> None:
    """Before a training: the vertices of all scans belong to the head model that is trained.

    Args:
        datasets: that are trained on; empty: all.
    Raises:
        DataError: they do not.
    """
    used = [s for s in shards if not datasets or any(entry.dataset in datasets for entry in s.entries)]
    heads = frozenset[str]().union(*(shard.heads() for shard in used))
    if heads - {geometry_hash}:
        raise DataError(wrong_head(heads, geometry_hash))


def wrong_head(heads: Iterable[str], trained: str) -> str:
    """The error's text for scans of other head models than the one that is trained."""
    known = {entry.hash: entry.name for entry in list_heads()}

    def said(geometry_hash: str) -> str:
        return f"'{known[geometry_hash]}'" if geometry_hash in known else f"with hash {geometry_hash}"

    return (
        f"the scans have the vertices of the head model {', '.join(map(said, sorted(heads)))}, and the one "
        f"{said(trained)} is trained; prepare them for it ('tokenface prepare … --head'), or train on theirs (head=…)"
    )


def find_shards(root: str | Path) -> list[ShardIndex]:
    """The shards of a folder and its subfolders (or one tar), in the order of their names.

    Raises:
        DataError: there are none.
    """
    root = Path(root)
    tars = [root] if root.is_file() else sorted(root.rglob("*.tar"))
    if not tars:
        raise DataError(f"no shards (*.tar) in '{root}'; make some with 'tokenface prepare'")
    return [load_index(tar) for tar in tars]
