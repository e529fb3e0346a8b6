"""Network predictions in a benchmark's layout: neutral mesh and seven landmarks per image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tokenface.core.files import discard, write_atomically
from tokenface.core.fingerprint import content_hash, is_current, remove_note, write_note
from tokenface.errors import EvaluationError, TokenFaceError
from tokenface.geometry.landmarks import NOW7

if TYPE_CHECKING:
    from tokenface.model import Reconstructor


VERSION = 1
"""Raised whenever the same weights and photo would give another prediction."""


@dataclass(frozen=True)
class PhotoTask:
    """name: for messages.  photo: file.  box: [4] known face or None.  stem: where the files go, without suffix."""

    name: str
    photo: Path
    box: np.ndarray | None
    stem: Path


def predict_photos(
    model: Reconstructor, tasks: Sequence[PhotoTask], overwrite: bool = False
) -> Iterator[tuple[PhotoTask, str | None]]:
    """Write `<stem>.ply`, `<stem>.npy` and a note of what they depend on; yields the task and why it failed, None when
    they are there.

    The face is looked for first, and the known box taken where none is found. Finished ones are left alone where
    weights, head model, photo and box are still the same; what others left is removed, also where the photo now fails.
    """
    common = {**model.facts(), "version": VERSION}
    for task in tasks:
        mesh, landmarks = (_beside(task.stem, suffix) for suffix in (".ply", ".npy"))
        facts = {**common, "photo": content_hash(task.photo), "box": task.box}
        if not overwrite and mesh.is_file() and is_current(landmarks, facts):
            yield task, None
            continue
        remove_note(landmarks)
        for path in (mesh, landmarks):
            discard(path)
        try:
            vertices, points = neutral_face(model, task)
        except TokenFaceError as error:
            yield task, str(error)
            continue
        write_prediction(task.stem, vertices, model.head.data.faces, points)
        write_note(landmarks, facts)
        yield task, None


def neutral_face(model: Reconstructor, task: PhotoTask) -> tuple[np.ndarray, np.ndarray]:
    """[V, 3] neutral vertices in metres and their seven landmarks [7, 3].

    Raises:
        TokenFaceError: the photo cannot be read, or shows no face.
    """
    if not task.photo.is_file():
        raise EvaluationError(f"the photo '{task.photo}' is missing; download the images of the benchmark")
    faces = model.reconstruct(task.photo)
    if not faces and task.box is not None:
        faces = model.reconstruct(task.photo, boxes=task.box[None])
    if not faces:
        raise EvaluationError(f"no face found in '{task.photo}' and the benchmark gives no box")
    face = faces[0] if task.box is None else max(faces, key=lambda face: _overlap(face.box, task.box))
    vertices = face.neutral_vertices
    points = model.head.landmarks68(torch.from_numpy(vertices)[None])[0].numpy()
    return vertices, points[list(NOW7)]


def write_prediction(stem: Path, vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> None:
    """A binary PLY of the bare mesh and an `.npy` [7, 3] beside it; the landmarks come last, so both or none count."""
    buffer = io.BytesIO()
    np.save(buffer, landmarks.astype(np.float64), allow_pickle=False)
    write_atomically(_beside(stem, ".ply"), ply_bytes(vertices, faces))
    write_atomically(_beside(stem, ".npy"), buffer.getvalue())


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)  # a dot in the stem is no suffix


def ply_bytes(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | None = None) -> bytes:
    """A little-endian PLY: x y z (float32), red green blue (uint8) if given, triangles."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    layout: list[tuple] = [("xyz", "<f4", 3)]
    if colours is not None:
        header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
        layout.append(("colour", "u1", 3))
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    points = np.zeros(len(vertices), dtype=layout)
    points["xyz"] = vertices
    if colours is not None:
        points["colour"] = colours
    triangles = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces
    return ("\n".join(header) + "\n").encode() + points.tobytes() + triangles.tobytes()


def _overlap(a: np.ndarray, b: np.ndarray | None) -> float:
    """Shared area of two boxes over their joint area."""
    assert b is not None
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    joint = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / joint if joint > 0 else 0.0
