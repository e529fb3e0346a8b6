"""One thing on disk that becomes one record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenface.data.record import Kind

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"))


@dataclass(frozen=True)
class Item:
    """One thing on disk that becomes one record. Small, and sent to worker processes; nothing is decoded yet.

    key: unique in the data set.  pictures: files, several for a clip of frames; one video file is a clip too.
    identity: name of the person inside the data set, "" unknown.  landmarks: [68, 2] photo pixels when the list of the
    data set has them.  files: further files by role ("landmarks", "geometry", …).  neutral: of the geometry.
    note: what the reader itself needs to find the item again inside its file.
    """

    key: str
    kind: Kind
    pictures: tuple[Path, ...]
    identity: str = ""
    landmarks: tuple[tuple[float, float], ...] | None = None
    files: tuple[tuple[str, Path], ...] = ()
    neutral: bool = True
    note: str = ""

    @property
    def source(self) -> str:
        return f"{self.pictures[0]}:{self.key}" if self.note else str(self.pictures[0])

    def file(self, role: str) -> Path | None:
        return dict(self.files).get(role)

    def on_disk(self) -> tuple[Path, ...]:
        """Everything that the record depends on."""
        return (*self.pictures, *(path for _, path in self.files))
