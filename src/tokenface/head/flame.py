"""FLAME (Li et al., SIGGRAPH Asia 2017; all releases so far) as a `HeadData`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tokenface.errors import HeadModelError
from tokenface.head.data import JOINT_PARENTS, HeadData
from tokenface.head.flame_files import Albedo, FlameFiles, find_flame_files
from tokenface.head.pickled_arrays import ChumpyObject
from tokenface.head.symmetry import mirror_map

SHAPE_MODES = 300
EXPRESSION_MODES = 100
CONTOUR_DEGREES = 39
LICENCE = "that of the downloaded FLAME release (Max Planck Society)"


def load_flame(paths: Sequence[Path]) -> HeadData:
    """Convert a FLAME model and its companions.

    Args:
        paths: files or folders: the model (`generic_model.pkl`, `male_model.pkl`, `flame2023.pkl`, …) and a landmark
            embedding (`landmark_embedding.npy`); optional: `FLAME_masks.pkl`, `FLAME_texture.npz` or an albedo model
            (`MU`, `PC`), `mediapipe_landmark_embedding.npz`, `head_template.obj` for texture coordinates.
    Raises:
        HeadModelError: a file is missing, damaged, hostile, or of another topology.
    """
    files = find_flame_files(paths)
    source = files.model_path.name
    template = _array(files.model, "v_template", source, (-1, 3))
    count = len(template)
    faces = _array(files.model, "f", source, (-1, 3)).astype(np.int32)
    if faces.size and not 0 <= faces.min() <= faces.max() < count:
        raise HeadModelError(f"the triangles of '{source}' refer to vertices that are not there; download it again")
    shape_basis, expression_basis = _bases(files.model, source, count)
    regressor = _array(files.model, "J_regressor", source, (5, count))
    weights = _array(files.model, "weights", source, (count, 5))
    _check_joints(files.model, source)
    basis = np.concatenate([shape_basis, expression_basis])
    static_faces, static_weights = _static_landmarks(files, len(faces))
    contour_faces, contour_weights, first_yaw = _contour(files, len(faces))
    mesh468 = _mesh468(files, len(faces))
    uv, uv_faces = _uv(files, template, faces)
    steps, scale = _quantised(files.albedo)
    return HeadData(
        name=_name(files.model_path),
        licence=LICENCE,
        template=template.astype(np.float32),
        faces=faces,
        uv=uv.astype(np.float32),
        uv_faces=uv_faces.astype(np.int32),
        shape_basis=shape_basis.astype(np.float32),
        expression_basis=expression_basis.astype(np.float32),
        expression_names=tuple(f"expression{i:03d}" for i in range(len(expression_basis))),
        expression_range=None,
        joint_template=(regressor @ template).astype(np.float32),
        joint_basis=np.einsum("jv,bvc->bjc", regressor, basis).astype(np.float32),
        skinning_weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        static_landmark_faces=static_faces,
        static_landmark_barycentrics=static_weights,
        contour_faces=contour_faces,
        contour_barycentrics=contour_weights,
        contour_first_yaw=first_yaw,
        mirror=mirror_map(template),
        pose_basis=_pose_basis(files.model, source, count),
        mesh468_faces=None if mesh468 is None else mesh468[0],
        mesh468_barycentrics=None if mesh468 is None else mesh468[1],
        albedo_mean=None if files.albedo is None else files.albedo.mean,
        albedo_basis=steps,
        albedo_scale=scale,
        regions=_regions(files, weights),
        facts=_facts(files),
    )


def _array(model: dict[str, Any], key: str, source: str, shape: tuple[int, ...]) -> np.ndarray:
    value: Any = model.get(key)
    if isinstance(value, ChumpyObject):
        raise HeadModelError(
            f"'{key}' of '{source}' is a chumpy expression '{value.kind}', not numbers; use a release file"
        )
    if scipy.sparse.issparse(value):
        value = value.toarray()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise HeadModelError(f"'{source}' has no numbers under '{key}'; is it a FLAME model?")
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != len(shape) or any(e not in (-1, n) for e, n in zip(shape, array.shape, strict=True)):
        raise HeadModelError(f"'{key}' of '{source}' has shape {array.shape}, expected {shape} (−1: any)")
    if not np.isfinite(array).all():
        raise HeadModelError(f"'{key}' of '{source}' holds numbers that are not finite; download it again")
    return array


def _bases(model: dict[str, Any], source: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    directions = _array(model, "shapedirs", source, (count, 3, -1))
    modes = directions.shape[2]
    if modes != SHAPE_MODES + EXPRESSION_MODES:
        raise HeadModelError(
            f"'{source}' has {modes} shape directions; FLAME has {SHAPE_MODES} for identity and {EXPRESSION_MODES} for "
            "expression. A body model, or a cut-down one?"
        )
    basis = directions.transpose(2, 0, 1)
    return basis[:SHAPE_MODES], basis[SHAPE_MODES:]


def _pose_basis(model: dict[str, Any], source: str, count: int) -> np.ndarray:
    """[V, 3, 36] in the file; 36 = four inner joints × the nine entries of R − I, row by row."""
    directions = _array(model, "posedirs", source, (count, 3, 36))
    return np.ascontiguousarray(directions.transpose(2, 0, 1), dtype=np.float32)


def _check_joints(model: dict[str, Any], source: str) -> None:
    tree = model.get("kintree_table")
    if not isinstance(tree, np.ndarray) or tree.shape != (2, 5):
        raise HeadModelError(f"'{source}' has no table of five joints; is it a FLAME model?")
    parents = (-1, *(int(p) for p in tree[0, 1:]))  # the root's parent is written as 2³² − 1
    if parents != JOINT_PARENTS:
        raise HeadModelError(f"the joints of '{source}' have parents {parents}, FLAME's have {JOINT_PARENTS}")


def _embedding(faces: Any, weights: Any, shape: tuple[int, ...], face_count: int) -> tuple[np.ndarray, np.ndarray]:
    faces, weights = np.asarray(faces), np.asarray(weights, dtype=np.float64)
    if faces.dtype.kind not in "iu" or faces.shape[-1:] != shape[-1:] or faces.ndim != len(shape):
        raise HeadModelError(f"the landmark embedding has points of shape {faces.shape}, expected {shape}")
    if weights.shape != (*faces.shape, 3) or not np.allclose(weights.sum(-1), 1, atol=1e-3):
        raise HeadModelError("the landmark embedding's barycentric coordinates do not sum to 1; download it again")
    if faces.size and not 0 <= int(faces.min()) <= int(faces.max()) < face_count:
        raise HeadModelError("the landmark embedding refers to triangles that the model does not have")
    return faces.astype(np.int32), weights.astype(np.float32)


def _static_landmarks(files: FlameFiles, face_count: int) -> tuple[np.ndarray, np.ndarray]:
    table = files.landmarks
    if table is None:
        raise HeadModelError(
            "no landmark embedding for FLAME: add 'landmark_embedding.npy', which comes with the published code of "
            "DECA (folder data) and MICA (folder data/FLAME2020)"
        )
    if "static_lmk_faces_idx" in table:
        return _embedding(table["static_lmk_faces_idx"], table["static_lmk_bary_coords"], (51,), face_count)
    faces, weights = _full_landmarks(table, face_count)
    return faces[17:], weights[17:]


def _full_landmarks(table: dict[str, Any], face_count: int) -> tuple[np.ndarray, np.ndarray]:
    if "full_lmk_faces_idx" not in table:
        raise HeadModelError("the landmark embedding has neither static nor full points; get 'landmark_embedding.npy'")
    faces = np.asarray(table["full_lmk_faces_idx"]).reshape(-1)
    return _embedding(faces, np.asarray(table["full_lmk_bary_coords"]).reshape(-1, 3), (68,), face_count)


def _contour(files: FlameFiles, face_count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The moving jaw line, one row per degree from −39 to 39.

    The published table is looked up by the yaw y in whole degrees: row y for 0 … 39, row 39 − y for −1 … −39, i.e. rows
    40 … 78; beyond ±39 the last row of that side. Sorted by y it becomes ours, whose lookup clamps at both ends.
    """
    table = files.landmarks or {}
    if "dynamic_lmk_faces_idx" not in table:
        faces, weights = _full_landmarks(table, face_count)
        return faces[None, :17], weights[None, :17], 0
    faces, weights = _embedding(
        table["dynamic_lmk_faces_idx"], table["dynamic_lmk_bary_coords"], (2 * CONTOUR_DEGREES + 1, 17), face_count
    )
    if len(faces) != 2 * CONTOUR_DEGREES + 1:
        raise HeadModelError(f"the moving contour has {len(faces)} rows, expected {2 * CONTOUR_DEGREES + 1}")
    yaw = np.arange(-CONTOUR_DEGREES, CONTOUR_DEGREES + 1)
    rows = np.where(yaw >= 0, yaw, CONTOUR_DEGREES - yaw)
    return faces[rows], weights[rows], -CONTOUR_DEGREES


def _mesh468(files: FlameFiles, face_count: int) -> tuple[np.ndarray, np.ndarray] | None:
    if files.mediapipe is None:
        return None
    indices = files.mediapipe["landmark_indices"].astype(np.int64)
    faces, weights = _embedding(
        files.mediapipe["lmk_face_idx"], files.mediapipe["lmk_b_coords"], (len(indices),), face_count
    )
    known = (indices >= 0) & (indices < 468)  # irises have higher numbers
    all_faces, all_weights = np.full(468, -1, np.int32), np.zeros((468, 3), np.float32)
    all_faces[indices[known]], all_weights[indices[known]] = faces[known], weights[known]
    return all_faces, all_weights


def _uv(files: FlameFiles, template: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if files.uv is None or files.uv_faces is None:
        return cylindrical_uv(template, faces)
    uv, uv_faces = np.asarray(files.uv, dtype=np.float64), np.asarray(files.uv_faces)
    if uv_faces.shape != faces.shape or uv.ndim != 2 or not 0 <= uv_faces.min() <= uv_faces.max() < len(uv):
        raise HeadModelError(f"the texture coordinates of '{files.uv_source}' do not fit the model's triangles")
    return uv[:, :2], uv_faces


def cylindrical_uv(template: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates for a model that comes without: angle round the vertical axis, height; the seam at the back.

    Returns:
        [3F, 2] in [0, 1], u to the right as seen from the front, and [F, 3] indices into it.
    """
    centred = template - (template.max(0) + template.min(0)) / 2
    angle = np.arctan2(centred[:, 0], centred[:, 2]) / (2 * np.pi) + 0.5
    height = (template[:, 1] - template[:, 1].min()) / np.ptp(template[:, 1])
    u, v = angle[faces], height[faces]
    across = np.ptp(u, axis=1) > 0.5
    u[across] = np.where(u[across] < 0.5, u[across] + 1, u[across]).clip(max=1)
    return np.stack([u, v], -1).reshape(-1, 2), np.arange(3 * len(faces)).reshape(-1, 3)


def _quantised(albedo: Albedo | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    if albedo is None:
        return None, None
    scale = np.abs(albedo.basis).max(axis=(1, 2, 3)) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.round(albedo.basis / scale[:, None, None, None]).astype(np.int8), scale


def _regions(files: FlameFiles, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The published masks under their own names, plus both eyes and both ears together; eyes also without masks."""
    count = len(weights)
    regions = {}
    for name, vertices in (files.masks or {}).items():
        if vertices.size and not 0 <= int(vertices.min()) <= int(vertices.max()) < count:
            raise HeadModelError(f"region '{name}' of '{files.sources['masks']}' refers to vertices that are not there")
        regions[name] = np.unique(vertices).astype(np.int32)
    for name, joint in (("left_eyeball", 3), ("right_eyeball", 4)):
        regions.setdefault(name, np.nonzero(weights[:, joint] > 0.5)[0].astype(np.int32))
    for name, parts in (("eyes", ("left_eyeball", "right_eyeball")), ("ears", ("left_ear", "right_ear"))):
        if all(part in regions for part in parts):
            regions[name] = np.unique(np.concatenate([regions[part] for part in parts]))
    return regions


def _name(path: Path) -> str:
    """FLAME2020/generic_model.pkl → flame2020; male_model.pkl → flame_male; flame2023_no_jaw.pkl → flame2023_no_jaw."""
    stem, folder = path.stem.lower(), path.resolve().parent.name.lower()
    year = re.search(r"20(17|19|2\d)", stem) or re.search(r"20(17|19|2\d)", folder)
    gender = re.search(r"(?<![a-z])(female|male)", stem)
    parts = ["flame" + (year.group() if year else "")]
    parts += [gender.group(1)] if gender else []
    parts += ["no_jaw"] if "no_jaw" in stem else []
    return "_".join(parts)


def _facts(files: FlameFiles) -> dict[str, str]:
    facts = {role: f"{path.name} sha256 {_sha256(path)}" for role, path in files.sources.items()}
    facts["texture coordinates"] = files.uv_source.name if files.uv_source else "cylindrical (no file gave any)"
    return facts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
