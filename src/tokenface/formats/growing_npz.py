"""Append-only `.npz`: rows streamed to disk, for clips that do not fit into memory."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tokenface.core.files import discard, make_folder, output_error, replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same arrays give the same bytes


class GrowingNpz:
    """Rows go to raw files in a working folder, and from there into the archive.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_folder(folder)
        for old in self.folder.glob("*.raw"):  # of a run that was killed
            discard(old)
        self._kinds: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self.count = 0

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Rows of every array, [n, …] each; the same names, shapes and types every time.

        Raises:
            ValueError: other names, shapes or numbers of rows than before.
        """
        counts = {len(values) for values in rows.values()}
        kinds = {name: (values.shape[1:], values.dtype) for name, values in rows.items()}
        if len(counts) != 1 or (self._kinds and kinds != self._kinds):
            raise ValueError("rows must have the same names, shapes and types, and one number of rows")
        self._kinds = kinds
        for name, values in rows.items():
            path = self.folder / f"{name}.raw"
            try:
                with path.open("ab") as file:
                    file.write(np.ascontiguousarray(values).tobytes())
            except OSError as error:
                raise output_error(path, error) from error
        self.count += counts.pop()

    def rows(self, name: str) -> np.ndarray:
        """All rows of one array so far, [count, …]."""
        shape, dtype = self._kinds[name]
        return np.fromfile(self.folder / f"{name}.raw", dtype).reshape(self.count, *shape)

    def finish(self, path: str | Path, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write whole arrays and rows to an uncompressed npz, atomically; `np.load(path, allow_pickle=False)` reads it.

        Raises:
            OutputError: it cannot be written.
        """
        path = Path(path)
        with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), buffer.getvalue())
            for name, (shape, dtype) in self._kinds.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as out:
                    descr = np.lib.format.dtype_to_descr(dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": (self.count, *shape)}
                    np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]
                    with (self.folder / f"{name}.raw").open("rb") as raw:
                        shutil.copyfileobj(raw, out, 1 << 20)
        return path
