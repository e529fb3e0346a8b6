"""Files of ICT-FaceKit: a clone of the repository, or the same arrays in one `.npz`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.core.files import read_json
from tokenface.errors import HeadModelError
from tokenface.head.flame_files import npz_array, npz_keys
from tokenface.head.obj_file import read_obj, read_obj_vertices

VERTEX_COUNT = 26719
POLYGON_COUNT = 26384
NEUTRAL = "generic_neutral_mesh.obj"
_ARRAYS = {"vertices", "quads", "uv", "uv_quads", "identity", "expression", "expression_names", "landmarks68"}


@dataclass(frozen=True)
class IctSource:
    """Everything in centimetres and in the order of the files."""

    vertices: np.ndarray  # [V, 3]
    polygons: np.ndarray  # [P, 4], a triangle repeats its last corner
    uv: np.ndarray  # [T, 2], one unit tile per material
    uv_polygons: np.ndarray  # [P, 4]
    identity: np.ndarray  # [I, V, 3] offsets per standard deviation
    expression: np.ndarray  # [E, V, 3] offsets at full action
    expression_names: tuple[str, ...]  # 'browDown_L', …
    landmarks68: np.ndarray  # [68] vertices
    origin: str


def read_ict(paths: Sequence[Path]) -> IctSource:
    """Read the clone (its folder, or the FaceXModel folder inside) or the one-file `.npz`.

    Raises:
        HeadModelError: nothing usable, a damaged file, or a revision with another vertex order.
    """
    if len(paths) != 1:
        raise HeadModelError("give one path: the clone of ICT-FaceKit, its FaceXModel folder, or one .npz file")
    path = paths[0]
    if path.is_file() and path.suffix.lower() == ".npz":
        source = _read_npz(path)
    else:
        source = _read_clone(path)
    _check(source, path)
    return source


def _read_npz(path: Path) -> IctSource:
    missing = _ARRAYS - npz_keys(path)
    if missing:
        raise HeadModelError(f"'{path}' lacks {', '.join(sorted(missing))}; it is not an ICT-FaceKit file")
    names = _text_array(path, "expression_names")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return IctSource(
        vertices=npz_array(path, "vertices").astype(np.float64),
        polygons=npz_array(path, "quads").astype(np.int32),
        uv=npz_array(path, "uv").astype(np.float64),
        uv_polygons=npz_array(path, "uv_quads").astype(np.int32),
        identity=npz_array(path, "identity").astype(np.float32),
        expression=npz_array(path, "expression").astype(np.float32),
        expression_names=names,
        landmarks68=npz_array(path, "landmarks68").astype(np.int64),
        origin=f"{path.name} sha256 {digest}",
    )


def _text_array(path: Path, key: str) -> tuple[str, ...]:
    try:
        with open_arrays(path) as file:
            return tuple(str(name) for name in file[key])
    except (ValueError, OSError, KeyError) as error:
        raise HeadModelError(f"cannot read '{key}' from '{path}' ({error}); download it again") from error


def _read_clone(path: Path) -> IctSource:
    folder = next((f for f in (path, path / "FaceXModel") if (f / NEUTRAL).is_file()), None)
    if folder is None:
        raise HeadModelError(
            f"no '{NEUTRAL}' in '{path}' or its FaceXModel folder; give the path of a clone of ICT-VGL/ICT-FaceKit"
        )
    layout = _layout(folder)
    neutral = read_obj(folder / NEUTRAL)
    names = tuple(str(name) for name in layout["expressions"])
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identities:
        raise HeadModelError(f"no 'identity000.obj' in '{folder}'; the clone is incomplete, run 'git checkout .' in it")
    unsafe = [name for name in names if not re.fullmatch(r"\w+", name)]
    if unsafe:
        raise HeadModelError(f"'vertex_indices.json' in '{folder}' names an expression {unsafe[0]!r}; clone it again")
    digest = hashlib.sha256((folder / NEUTRAL).read_bytes()).hexdigest()
    return IctSource(
        vertices=neutral.vertices,
        polygons=neutral.polygons,
        uv=neutral.uv,
        uv_polygons=neutral.uv_polygons,
        identity=_offsets(identities, neutral.vertices),
        expression=_offsets([folder / f"{name}.obj" for name in names], neutral.vertices),
        expression_names=names,
        landmarks68=np.asarray(layout["idx_to_landmark_verts"], dtype=np.int64),
        origin=f"clone, {NEUTRAL} sha256 {digest}",
    )


def _layout(folder: Path) -> dict[str, list]:
    try:
        layout = read_json(folder / "vertex_indices.json")
    except (OSError, ValueError) as error:
        raise HeadModelError(f"cannot read 'vertex_indices.json' in '{folder}' ({error}); clone it again") from error
    for key in ("expressions", "idx_to_landmark_verts"):
        if not isinstance(layout, dict) or not isinstance(layout.get(key), list):
            raise HeadModelError(f"'vertex_indices.json' in '{folder}' has no list '{key}'; clone it again")
    return layout


def _offsets(paths: list[Path], neutral: np.ndarray) -> np.ndarray:
    offsets = np.empty((len(paths), *neutral.shape), dtype=np.float32)
    for row, path in enumerate(paths):
        vertices = read_obj_vertices(path)
        if vertices.shape != neutral.shape:
            raise HeadModelError(
                f"'{path}' has {len(vertices)} vertices, the neutral mesh {len(neutral)}; clone it again"
            )
        offsets[row] = vertices - neutral
    return offsets


def _check(source: IctSource, path: Path) -> None:
    """The parts of the mesh are ranges of vertices; revisions before mid-2020 ordered them otherwise."""
    count = len(source.vertices)
    if count != VERTEX_COUNT or len(source.polygons) != POLYGON_COUNT:
        raise HeadModelError(
            f"'{path}' has {count} vertices and {len(source.polygons)} polygons, ICT-FaceKit Light {VERTEX_COUNT} and "
            f"{POLYGON_COUNT}; update the clone with 'git pull'"
        )
    for array, limit in ((source.polygons, count), (source.uv_polygons, len(source.uv))):
        if array.shape != (POLYGON_COUNT, 4) or not 0 <= array.min() <= array.max() < limit:
            raise HeadModelError(f"the polygons of '{path}' refer to points that are not there; clone it again")
    eyes = source.polygons[21496:24692]
    if eyes.min() < 21451 or eyes.max() > 24590:
        raise HeadModelError(
            f"'{path}' is an early revision with another vertex order; update the clone with 'git pull'"
        )
    expected = (len(source.expression_names), count, 3)
    if source.expression.shape != expected or source.identity.ndim != 3 or source.identity.shape[1:] != (count, 3):
        raise HeadModelError(f"'{path}' has offsets of shape {source.expression.shape}, expected {expected}")
    marks = source.landmarks68
    if marks.shape != (68,) or not 0 <= marks.min() <= marks.max() < count:
        raise HeadModelError(f"'{path}' has no 68 landmark vertices; clone it again")
    for array in (source.vertices, source.uv, source.identity, source.expression):
        if not np.isfinite(array).all():
            raise HeadModelError(f"'{path}' holds numbers that are not finite; clone it again")
