"""NumPy archives of plain numbers with checked sizes: decompression bombs and false headers are refused."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import numpy as np

from tokenface.core.files import GIGABYTE, read_regular

MAX_BYTES = 64 * GIGABYTE
"""Of a file, which is read array by array."""
MAX_UNPACKED = GIGABYTE
"""Of what all arrays of a file unpack to, or `LARGEST_RATIO` times the file where that is more."""
LARGEST_RATIO = 4
"""How much smaller than its numbers a large file may be: measured numbers hardly get smaller at all."""
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError, TypeError)


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of an open `.npz` by name, each read when it is asked for. files: the names."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.files = list(self._members)

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._members[name]
        try:
            with self._archive.open(info) as stream:
                _checked_header(stream, info.file_size)
            with self._archive.open(info) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except MemoryError:
            raise ValueError(f"'{name}' does not fit into memory") from None
        except _DAMAGE as error:
            raise ValueError(f"'{name}' is damaged ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@contextmanager
def open_arrays(source: str | os.PathLike | bytes, limit: int = MAX_UNPACKED) -> Iterator[Arrays]:
    """An `.npz` without pickled objects.

    Args:
        source: path or content.  limit: bytes that its arrays may unpack to.
    Raises:
        OSError: missing, no regular file, not readable.
        ValueError: no `.npz`, damaged, or an array that is not what its header promises; raised by the arrays too.
    """
    if isinstance(source, bytes):
        file: IO[bytes] = io.BytesIO(source)
        size = len(source)
    else:
        from tokenface.core.files import check_regular

        size = check_regular(source, MAX_BYTES)
        file = open(source, "rb")  # noqa: SIM115
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise ValueError(f"it is no .npz ({error})") from error
        unpacked = sum(info.file_size for info in archive.infolist())
        if any(info.file_size < 0 for info in archive.infolist()) or unpacked > max(limit, LARGEST_RATIO * size):
            raise ValueError(f"it unpacks to {unpacked / 1e6:,.0f} MB, more than the limit of {limit / 1e6:,.0f}")
        with archive:
            yield Arrays(archive)


def read_npy(source: str | os.PathLike | bytes, limit: int = MAX_UNPACKED) -> np.ndarray:
    """The array of an `.npy` without pickled objects.

    Raises:
        OSError, ValueError: as `open_arrays`.
    """
    data = source if isinstance(source, bytes) else read_regular(source, limit)
    stream = io.BytesIO(data)
    try:
        _checked_header(stream, len(data))
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(f"it is damaged ({error})") from error


def _checked_header(stream: IO[bytes], size: int) -> None:
    """Raises ValueError where the header of an array does not promise exactly the bytes that follow it."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"an array of version {version}")
    shape, _, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("an array of objects, which only a pickle could hold")
    promised = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or promised != size - stream.tell():
        raise ValueError(f"an array of {shape} {dtype} is promised, {size - stream.tell():,} bytes are there")
