"""Inputs of the conversion: parameters of photos and clips, parameters of other tools, meshes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.core.files import reason
from tokenface.errors import DataError, HeadModelError
from tokenface.evaluation.mesh_files import read_mesh
from tokenface.formats.parameters import read_parameters
from tokenface.geometry.similarity import procrustes
from tokenface.head.data import HeadData
from tokenface.head.model import LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.head.obj_file import read_obj
from tokenface.head.registry import list_heads, load_head, load_head_by_hash
from tokenface.inference.face import Face
from tokenface.retarget.converter import Performance
from tokenface.video.outputs import NPZ_FORMAT

SHAPE_KEYS = ("shape", "betas", "shapecode", "shape_params")
EXPRESSION_KEYS = ("expression", "exp", "expcode", "expression_params")
JAW_KEYS = ("jaw", "jaw_pose", "jaw_params")
POSE_KEYS = ("pose", "posecode")
"""Names that smplx, DECA, EMOCA, SMIRK and MICA give the same numbers."""
STRANGE = 0.1
"""Root mean square distance to the mean head over its size from which a mesh has its vertices in another order."""


@dataclass(frozen=True, eq=False)
class Photo:
    """faces: of a `parameters.json`, all of one head model."""

    head: HeadModel
    faces: list[Face]
    name: str


@dataclass(frozen=True, eq=False)
class Clip:
    """arrays: of a `parameters.npz` of a tracked clip."""

    head: HeadModel
    arrays: dict[str, np.ndarray]

    @property
    def performance(self) -> Performance:
        eyes = None if self.head.data.eye_drive is not None else self.arrays["pose"][:, [LEFT_EYE, RIGHT_EYE]]
        return Performance(self.arrays["identity"], self.arrays["expression"], self.arrays["jaw"], eyes)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Shape, expression and jaw as other tools store them."""

    head: HeadModel
    performance: Performance


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices: [V, 3] float64 in the head model's order, any unit and place."""

    head: HeadModel
    vertices: np.ndarray
    name: str


def read_source(path: str | Path, head: str | None = None) -> Photo | Clip | Numbers | Mesh:
    """A file to convert.

    Args:
        head: name or path of the head model that the numbers or the mesh belong to; None: what the file says, or the
            installed head model with as many vertices.
    Raises:
        DataError, EvaluationError, HeadModelError, TokenFaceError: it cannot be read, or belongs to no installed head.
    """
    path = Path(path).expanduser()
    match path.suffix.lower():
        case ".json":
            return _photo(path)
        case ".npz":
            return _arrays(path, head)
        case ".obj" | ".ply":
            return _mesh(path, head)
        case suffix:
            raise DataError(
                f"'{path}' (suffix '{suffix}') cannot be converted; expected parameters.json or parameters.npz of "
                "TokenFace, an .npz of FLAME parameters, or a mesh .obj or .ply"
            )


def _photo(path: Path) -> Photo:
    document = read_parameters(path)
    try:
        head = load_head_by_hash(document["head"]["geometry_hash"], document["head"]["name"])
        faces = [Face.from_dict(entry, document, head) for entry in document["faces"]]
        if not faces:
            raise DataError(f"'{path}' has no faces")
        return Photo(head, faces, document["photo"]["name"])
    except (KeyError, TypeError) as error:
        raise DataError(f"'{path}' is incomplete ({error}); reconstruct the photo again") from error


def _arrays(path: Path, name: str | None) -> Clip | Numbers:
    try:
        with open_arrays(path) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is not an .npz of plain numbers ({reason(error)})") from error
    if str(arrays.get("format", "")) == NPZ_FORMAT:
        try:
            head = load_head_by_hash(str(arrays["head_hash"]), str(arrays["head"]))
            clip = Clip(head, arrays)
            _check(path, head, clip.performance)
            _check_clip(clip)
            return clip
        except KeyError as error:
            raise DataError(f"'{path}' lacks {error}; track the clip again") from error
        except (ValueError, TypeError, IndexError) as error:
            raise DataError(f"'{path}' is damaged ({reason(error)}); track the clip again") from error
    if name is None:
        raise DataError(f"'{path}' does not say which head model its numbers belong to; give it with --from")
    head = load_head(name)
    shape = _found(path, arrays, SHAPE_KEYS).reshape(-1)
    expression = np.atleast_2d(_found(path, arrays, EXPRESSION_KEYS))
    if any(key in arrays for key in JAW_KEYS):
        jaw = np.atleast_2d(_found(path, arrays, JAW_KEYS))
    else:
        jaw = np.atleast_2d(_found(path, arrays, POSE_KEYS))[:, -3:]  # global rotation, then jaw
    if len(shape) < head.sizes.shape:  # tools that use the first hundred modes
        shape = np.pad(shape, (0, head.sizes.shape - len(shape)))
    if expression.shape[1] < head.sizes.expression:
        expression = np.pad(expression, ((0, 0), (0, head.sizes.expression - expression.shape[1])))
    performance = Performance(shape, expression, jaw)
    _check(path, head, performance)
    return Numbers(head, performance)


def _check_clip(clip: Clip) -> None:
    """Raises ValueError where what is said of the frames is not said of each of them."""
    count = len(clip.performance.expression)
    for name, shape in {"rotation": (3, 3), "camera": (7,), "orthographic": (3, 4)}.items():
        array = clip.arrays[name]
        if array.shape != (count, *shape) or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.shape} {array.dtype}, expected {(count, *shape)} finite numbers")
    for name in ("texture", "identity_texture"):
        if clip.arrays[name].shape[-1:] != (clip.head.sizes.texture,):
            raise ValueError(f"{name} is {clip.arrays[name].shape}")


def _found(path: Path, arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in arrays and arrays[key].dtype.kind in "fiu":
            return arrays[key].astype(np.float64)
    raise DataError(f"'{path}' has no {' or '.join(keys)}; it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}")


def _check(path: Path, head: HeadModel, performance: Performance) -> None:
    count = len(performance.expression)
    wanted = {
        "shape": (performance.shape, (head.sizes.shape,)),
        "expression": (performance.expression, (count, head.sizes.expression)),
        "jaw": (performance.jaw, (count, 3)),
    }
    for name, (array, size) in wanted.items():
        if array.shape != size:
            raise DataError(f"{name} of '{path}' has size {array.shape}, '{head.name}' has {size}")
        if not np.isfinite(array).all():
            raise DataError(f"{name} of '{path}' holds numbers that are not finite")


def _mesh(path: Path, name: str | None) -> Mesh:
    if path.suffix.lower() == ".obj":
        vertices = read_obj(path).vertices  # keeps the order of the file's vertices
    else:
        vertices = read_mesh(path).vertices
    head = load_head(name) if name is not None else _head_of(path, len(vertices))
    if len(vertices) != head.vertex_count:
        raise HeadModelError(f"'{path}' has {len(vertices)} vertices, '{head.name}' has {head.vertex_count}")
    _check_order(path, vertices, head.data)
    return Mesh(head, vertices, path.stem)


def _head_of(path: Path, count: int) -> HeadModel:
    entries = [entry for entry in list_heads() if entry.problem is None]
    for entry in entries:
        if entry.vertices == count:
            return load_head(entry.path)
    known = ", ".join(f"{entry.name} ({entry.vertices})" for entry in entries)
    raise HeadModelError(
        f"'{path}' has {count} vertices, like none of the installed head models: {known}; a mesh must keep the head "
        "model's own vertices in their order"
    )


def _check_order(path: Path, vertices: np.ndarray, data: HeadData) -> None:
    mean = data.template.astype(np.float64)
    if np.ptp(vertices, axis=0).max() <= 0:
        raise DataError(f"all vertices of '{path}' lie in one place")
    apart = np.sqrt(((procrustes(vertices, mean).apply(vertices) - mean) ** 2).sum(1).mean())
    if not apart < STRANGE * np.ptp(mean, axis=0).max():
        raise DataError(
            f"the vertices of '{path}' are {1000 * apart:.0f} mm from those of '{data.name}'; they are in another order"
        )
