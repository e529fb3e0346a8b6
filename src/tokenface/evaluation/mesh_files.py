"""Third-party meshes and landmark files, validated: anything unexpected is one clear line per file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.files import check_regular
from tokenface.errors import EvaluationError, HeadModelError
from tokenface.head.restricted_pickle import load_npy

MAX_MESH_BYTES = 1 << 30
MAX_LANDMARK_BYTES = 1 << 20
_PICKED_POINT = re.compile(r"""<point\b[^>]*>""")
_ZERO_INDEX = re.compile(rb"^f[ \t](?:[^\n]*[ \t])?0(?=[/ \t\r\n])", re.MULTILINE)
_ELEMENT = re.compile(rb"^element[ \t]+(vertex|face)[ \t]+(\d+)", re.MULTILINE)
_COORDINATE = re.compile(r"""\b([xyz])\s*=\s*["']\s*([^"']*?)\s*["']""")


@dataclass(frozen=True)
class MeshFile:
    """vertices: [V, 3] float64, finite where a triangle uses them.  faces: [F, 3]; quads arrive as two triangles."""

    vertices: np.ndarray
    faces: np.ndarray


def read_mesh(path: str | Path) -> MeshFile:
    """Positions and triangles of an OBJ or PLY; colours, textures and normals are passed over.

    Raises:
        EvaluationError: missing, empty, cut short, of another format, without triangles, with coordinates that are
            not finite, or with triangles that refer to vertices that are not there.
    """
    path = Path(path)
    size = _size(path, MAX_MESH_BYTES)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("obj", "ply"):
        raise EvaluationError(f"'{path}' is not a mesh that can be read; expected .obj or .ply")
    if size == 0:
        raise EvaluationError(f"'{path}' is an empty file; write the prediction again")
    import trimesh

    try:
        options = {"split_objects": False, "group_material": False} if kind == "obj" else {}
        load: Any = trimesh.load
        mesh = load(
            path, file_type=kind, process=False, maintain_order=True, skip_materials=True, force="mesh", **options
        )
        vertices = np.asarray(mesh.vertices, dtype=np.float64)
        faces = np.asarray(mesh.faces if hasattr(mesh, "faces") else np.empty((0, 3)), dtype=np.int64)
    except MemoryError as error:
        raise EvaluationError(f"'{path}' asks for more memory than there is; it is damaged or far too large") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise EvaluationError(f"'{path}' is not a readable {kind.upper()} mesh ({reason}); write it again") from error
    mesh_file = _checked(path, vertices, faces)
    _check_complete(path, kind, mesh_file)
    return mesh_file


def read_seven_landmarks(path: str | Path) -> np.ndarray:
    """[7, 3] float64 of a prediction: `.npy`, or `.txt` with a point on each line.

    Raises:
        EvaluationError: unreadable, or not seven finite points.
    """
    path = Path(path)
    _size(path, MAX_LANDMARK_BYTES)
    try:
        if path.suffix.lower() == ".npy":
            points = np.asarray(load_npy(path), dtype=np.float64)
        else:
            rows = path.read_text(encoding="latin-1").replace(",", " ").splitlines()
            points = np.array([row.split() for row in rows if row.strip()], dtype=np.float64)
    except (HeadModelError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise EvaluationError(f"'{path}' does not hold seven landmarks ({reason})") from error
    return seven_points(path, points)


def read_picked_points(path: str | Path) -> np.ndarray:
    """[7, 3] float64 of a scan: the first seven points of a MeshLab `.pp` file, in the file's order.

    Raises:
        EvaluationError: unreadable, or fewer than seven finite points.
    """
    path = Path(path)
    _size(path, MAX_LANDMARK_BYTES)
    points = []
    for tag in _PICKED_POINT.findall(path.read_text(encoding="latin-1")):
        place = dict(_COORDINATE.findall(tag))
        try:
            points.append([float(place[axis].replace(",", ".")) for axis in "xyz"])
        except (KeyError, ValueError) as error:
            raise EvaluationError(f"'{path}' has a picked point without readable x, y and z") from error
    if len(points) < 7:
        raise EvaluationError(f"'{path}' has {len(points)} picked points; the protocol needs 7")
    return seven_points(path, np.array(points[:7], dtype=np.float64))


def read_indexed_points(path: str | Path) -> np.ndarray:
    """[7, 3] float64 of a Stirling scan: `.lnd` rows `index x y z`, in the file's order.

    Raises:
        EvaluationError: unreadable, or not seven finite points.
    """
    path = Path(path)
    _size(path, MAX_LANDMARK_BYTES)
    rows = [row.split() for row in path.read_text(encoding="latin-1").splitlines() if row.strip()]
    try:
        points = np.array([[float(value) for value in row[-3:]] for row in rows if len(row) >= 4], dtype=np.float64)
    except ValueError as error:
        raise EvaluationError(f"'{path}' has rows that are not 'index x y z' ({error})") from error
    return seven_points(path, points)


def seven_points(name: str | Path, points: np.ndarray) -> np.ndarray:
    """The points, checked.

    Raises:
        EvaluationError: not [7, 3], not finite, or all in one place.
    """
    if points.shape != (7, 3):
        raise EvaluationError(f"'{name}' holds an array {list(points.shape)}; expected 7 landmarks with x, y, z")
    if not np.isfinite(points).all():
        raise EvaluationError(f"'{name}' has landmarks that are not finite numbers")
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if spread[1] <= 1e-9 * max(spread[0], 1e-300):
        raise EvaluationError(f"'{name}' has landmarks in one place or on one line; no alignment follows from them")
    return points


def _size(path: Path, limit: int) -> int:
    try:
        return check_regular(path, limit)
    except OSError as error:
        raise EvaluationError(f"cannot read '{path}' ({error.strerror or error})") from error


def _checked(path: Path, vertices: np.ndarray, faces: np.ndarray) -> MeshFile:
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or not len(vertices):
        raise EvaluationError(f"'{path}' has no vertices; write the prediction again")
    if faces.ndim != 2 or faces.shape[1:] != (3,) or not len(faces):
        raise EvaluationError(f"'{path}' has no triangles; the distance is to a surface, so points are not enough")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise EvaluationError(f"'{path}' has triangles with vertices that are not in the file; it is cut short")
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise EvaluationError(f"'{path}' has coordinates that are not finite numbers")
    if np.abs(used).max() > 1e9:
        raise EvaluationError(f"'{path}' has coordinates beyond a billion; no head is that large in any unit")
    if not (np.ptp(used, axis=0) > 0).sum() >= 2 or not _has_area(vertices, faces):
        raise EvaluationError(f"'{path}' has no triangle with an area; every point lies in one place or on one line")
    return MeshFile(vertices, faces)


def _check_complete(path: Path, kind: str, mesh: MeshFile) -> None:
    """What the mesh library lets pass: an OBJ index 0, and an ASCII PLY with fewer rows than its header says."""
    data = path.read_bytes()
    if kind == "obj" and _ZERO_INDEX.search(data):
        raise EvaluationError(f"'{path}' has a face with index 0; OBJ counts vertices from 1")
    announced = {name: int(count) for name, count in _ELEMENT.findall(data[:65536].partition(b"end_header")[0])}
    if kind == "ply" and (
        len(mesh.vertices) != announced.get(b"vertex", len(mesh.vertices))
        or len(mesh.faces) < announced.get(b"face", 0)
    ):
        raise EvaluationError(f"'{path}' has fewer vertices or faces than its header says; it is cut short")


def _has_area(vertices: np.ndarray, faces: np.ndarray) -> bool:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return bool((np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0).any())
