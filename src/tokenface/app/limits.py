"""Server limits: memory, disk, time, queue lengths."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """upload_bytes: of a photo.  video_bytes: of a clip.  pixels: width × height of a photo.
    seconds: from a request's first byte to its answer.  queue: photos that wait for the network.
    video_seconds: of a clip that are looked at.  video_queue: clips that wait.
    faces: of one photo, the largest ones.
    memory_bytes: results kept for the page's visitors.  disk_bytes: of the temporary folder.
    keep_seconds: how long results and uploads are kept without being used."""

    upload_bytes: int = 20 * MEGABYTE
    video_bytes: int = 200 * MEGABYTE
    pixels: int = 40_000_000
    seconds: float = 30.0
    queue: int = 16
    video_seconds: float = 60.0
    video_queue: int = 2
    faces: int = 16
    memory_bytes: int = 300 * MEGABYTE
    disk_bytes: int = 2048 * MEGABYTE
    keep_seconds: float = 1800.0
