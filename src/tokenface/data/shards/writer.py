"""Shard writer: a deterministic plain tar, written atomically."""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tokenface.core.files import discard, output_error
from tokenface.data.shards.index import Entry, ShardIndex, scan


def write_shard(
    path: str | Path,
    records: Iterable[tuple[str, dict[str, bytes]]],
    *,
    signature: str = "",
    rejected: Iterable[tuple[str, str]] = (),
    failed: Iterable[tuple[str, str]] = (),
    extra: dict[str, object] | None = None,
) -> ShardIndex:
    """Write a tar and its index.

    Args:
        path: ends in `.tar`.
        records: key and members (`encode_record`); consumed one by one, nothing is kept in memory.
        signature, rejected, failed, extra: go into the index, see `ShardIndex`; lazy iterables are read after the
            records.
    Returns:
        The index, already saved.
    Raises:
        OutputError: the disk is full or the folder cannot be written; what was there before stays.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for key, members in records:
                    for name, data in members.items():
                        _add(archive, f"{key}.{name}", data)
            file.flush()
            os.fsync(file.fileno())
        scanned = scan(part)
        index = ShardIndex(
            path,
            tuple(Entry(**vars(entry)) for entry in scanned.entries),
            scanned.defects,
            tuple(rejected),
            tuple(failed),
            signature,
            scanned.bytes,
            dict(extra or {}),
        )
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        discard(part)
    index.save()
    return index


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time, owner and mode stay at their defaults: equal records, equal bytes
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
