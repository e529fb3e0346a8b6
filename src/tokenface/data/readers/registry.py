"""Data sets by name."""

from __future__ import annotations

import difflib

from tokenface.data.readers import landmark_tar, photos2d, scans3d
from tokenface.data.readers.dataset import DatasetReader
from tokenface.errors import DataError

DATASETS: dict[str, DatasetReader] = {
    reader.name: reader for reader in (*photos2d.READERS, *scans3d.READERS, landmark_tar.READER)
}

VALIDATING = frozenset(reader.name for reader in DATASETS.values() if reader.validates)
"""Data sets that runs are watched by."""


def find_dataset(name: str) -> DatasetReader:
    """Raises DataError: no such name; the nearest is given."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(DATASETS)}"
    raise DataError(f"no data set named '{name}'; {hint}")
