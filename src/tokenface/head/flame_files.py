"""Files of a FLAME download: model, landmarks, masks, texture."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from tokenface.errors import HeadModelError
from tokenface.head.obj_file import ObjMesh, read_obj, triangulate
from tokenface.head.restricted_pickle import load_npy, load_pickle

ALBEDO_SIZE = 256
ALBEDO_COMPONENTS = 50
MAX_ARRAY_BYTES = 1 << 32
_MODEL_NAME = re.compile(r"(generic|male|female)_model|flame_?20\d\d|flame_(generic|neutral|male|female)", re.I)
_PREFERENCE = ("generic", "neutral", "flame2023.", "flame20", "female", "male", "no_jaw")


@dataclass
class Albedo:
    """mean: [R, R, 3] sRGB in [0, 1], row 0 is v = 1.  basis: [A, R, R, 3] per standard deviation."""

    mean: np.ndarray
    basis: np.ndarray


@dataclass
class FlameFiles:
    """Files found; only the model is required."""

    model_path: Path
    model: dict[str, Any]
    landmarks: dict[str, Any] | None = None
    masks: dict[str, np.ndarray] | None = None
    mediapipe: dict[str, np.ndarray] | None = None
    albedo: Albedo | None = None
    uv: np.ndarray | None = None  # [T, 2]
    uv_faces: np.ndarray | None = None  # [F, 3]
    uv_source: Path | None = None
    sources: dict[str, Path] = field(default_factory=dict)


def find_flame_files(paths: Sequence[Path]) -> FlameFiles:
    """Sort files and folders by what they hold. A file named explicitly wins over one found in a folder.

    Raises:
        HeadModelError: a path does not exist, no model among them, two models, or a damaged file.
    """
    named, found = _collect(paths)
    model_path, model = _find_model(named, found)
    files = FlameFiles(model_path, model, sources={"model": model_path})
    for path, required in [*((p, True) for p in named), *((p, False) for p in found)]:
        if path == model_path or (path.suffix == ".pkl" and _MODEL_NAME.search(path.name)):
            continue
        try:
            _sort_in(path, files)
        except HeadModelError:
            if required:
                raise
    return files


def _collect(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    named, found = [], []
    for path in paths:
        if path.is_dir():
            found += [p for pattern in ("*", "*/*") for p in sorted(path.glob(pattern)) if p.is_file()]
        elif path.is_file():
            named.append(path)
        else:
            raise HeadModelError(f"'{path}' does not exist; give the downloaded FLAME files or the folder they are in")
    return named, found


def _find_model(named: list[Path], found: list[Path]) -> tuple[Path, dict[str, Any]]:
    explicit = [p for p in named if p.suffix == ".pkl" and _MODEL_NAME.search(p.name)]
    if len(explicit) > 1:
        raise HeadModelError(
            f"'{explicit[0].name}' and '{explicit[1].name}' are both models; add one at a time, each with its --name"
        )
    others = [p for p in named if p.suffix == ".pkl" and p not in explicit]
    in_folders = sorted((p for p in found if p.suffix == ".pkl"), key=_preference)
    for path in [*explicit, *others, *in_folders]:
        try:
            content = load_pickle(path)
        except HeadModelError:
            if path in named:
                raise
            continue
        if isinstance(content, dict) and "v_template" in content and "shapedirs" in content:
            return path, content
    raise HeadModelError(
        "no FLAME model among the given files; it is called generic_model.pkl or flame2023.pkl and comes from "
        "flame.is.tue.mpg.de after registration"
    )


def _preference(path: Path) -> tuple[int, str]:
    name = path.name.lower()
    if "no_jaw" in name:
        return len(_PREFERENCE), name
    return next((i for i, part in enumerate(_PREFERENCE) if part in name), len(_PREFERENCE)), name


def _sort_in(path: Path, files: FlameFiles) -> None:
    suffix = path.suffix.lower()
    if suffix == ".npy" or suffix == ".pkl":
        content = load_npy(path) if suffix == ".npy" else load_pickle(path)
        if not isinstance(content, dict):
            return
        if "static_lmk_faces_idx" in content or "full_lmk_faces_idx" in content:
            _once(files, "landmarks", path, content)
        elif "lmk_face_idx" in content and "lmk_b_coords" in content:
            _smplx_embedding(path, content, files)
        elif content and all(isinstance(v, np.ndarray) and v.dtype.kind in "iu" for v in content.values()):
            _once(files, "masks", path, {str(k): v.ravel() for k, v in content.items()})
    elif suffix == ".npz":
        keys = npz_keys(path)
        if {"lmk_face_idx", "lmk_b_coords", "landmark_indices"} <= keys:
            _once(files, "mediapipe", path, {k: npz_array(path, k) for k in keys})
        elif {"mean", "tex_dir"} <= keys or {"MU", "PC"} <= keys:
            _once(files, "albedo", path, None)
            if files.sources["albedo"] == path:
                files.albedo = _read_albedo(path, keys)
                if {"vt", "ft"} <= keys:
                    _set_uv(files, path, npz_array(path, "vt"), npz_array(path, "ft"))
    elif suffix == ".obj":
        mesh = read_obj(path)
        if len(mesh.uv) and len(mesh.uv_polygons) and _same_triangles(mesh, files.model):
            _set_uv(files, path, mesh.uv, triangulate(mesh.uv_polygons))


def _once(files: FlameFiles, role: str, path: Path, content: Any) -> None:
    """The first file of a role wins: explicitly named ones come first."""
    if role not in files.sources:
        files.sources[role] = path
        if role != "albedo":
            setattr(files, role, content)


def _smplx_embedding(path: Path, content: dict[str, Any], files: FlameFiles) -> None:
    """The same points in two files, as the smplx package names them."""
    faces, weights = np.asarray(content["lmk_face_idx"]), np.asarray(content["lmk_b_coords"])
    part = "static" if faces.ndim == 1 else "dynamic"
    files.landmarks = {**(files.landmarks or {}), f"{part}_lmk_faces_idx": faces, f"{part}_lmk_bary_coords": weights}
    files.sources.setdefault(f"{part} landmarks", path)


def _same_triangles(mesh: ObjMesh, model: dict[str, Any]) -> bool:
    faces = np.asarray(model.get("f"))
    return faces.shape == (len(mesh.polygons), 3) and np.array_equal(faces, triangulate(mesh.polygons))


def _set_uv(files: FlameFiles, path: Path, uv: np.ndarray, uv_faces: np.ndarray) -> None:
    """Texture coordinates belong to the albedo's own file when it has them; a mesh file only fills the gap."""
    if files.uv is None or files.sources.get("albedo") == path:
        files.uv, files.uv_faces, files.uv_source = uv, uv_faces, path


def npz_keys(path: Path) -> set[str]:
    """Names of the arrays in an `.npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise HeadModelError(f"'{path}' is not a readable .npz file ({error}); download it again") from error


def npz_array(path: Path, key: str, max_bytes: int = 1 << 28) -> np.ndarray:
    """One numeric array of an `.npz`, its size checked before anything is allocated."""
    return np.concatenate(list(npz_blocks(path, key, 1 << 20, max_bytes))).reshape(npz_shape(path, key))


def npz_shape(path: Path, key: str) -> tuple[int, ...]:
    with _member(path, key) as stream:
        return _header(stream, path, key)[0]


def npz_blocks(path: Path, key: str, items: int, max_bytes: int = MAX_ARRAY_BYTES) -> Iterator[np.ndarray]:
    """The numbers of one array in C order, `items` at a time: a texture basis of a gigabyte never lies in memory."""
    with _member(path, key) as stream:
        shape, fortran, dtype = _header(stream, path, key)
        total = int(np.prod(shape, dtype=object)) if shape else 1
        if total * dtype.itemsize > max_bytes:
            raise HeadModelError(f"'{key}' in '{path}' has {total * dtype.itemsize >> 20} MB, more than any FLAME file")
        if fortran and len(shape) > 1:
            data = _next(stream, total * dtype.itemsize, path)
            yield np.frombuffer(data, dtype).reshape(shape, order="F").ravel()
            return
        if not total:
            yield np.empty(0, dtype)
        while total > 0:
            size = min(items, total)
            data = _next(stream, size * dtype.itemsize, path)
            yield np.frombuffer(data, dtype)
            total -= size


def _next(stream: IO[bytes], size: int, path: Path) -> bytes:
    try:
        data = stream.read(size)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise HeadModelError(f"'{path}' is damaged ({error}); download it again") from error
    if len(data) != size:
        raise HeadModelError(f"'{path}' is cut short; download it again")
    return data


def _member(path: Path, key: str) -> IO[bytes]:
    try:
        return zipfile.ZipFile(path).open(f"{key}.npy")
    except (zipfile.BadZipFile, OSError, KeyError, RuntimeError, NotImplementedError) as error:
        raise HeadModelError(f"cannot read '{key}' from '{path}' ({error}); download it again") from error


def _header(stream: Any, path: Path, key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, OSError) as error:
        raise HeadModelError(f"'{key}' in '{path}' is not a readable array ({error}); download it again") from error
    if dtype.kind not in "biuf":
        raise HeadModelError(f"'{key}' in '{path}' holds {dtype}, not numbers")
    return shape, fortran, dtype


def _read_albedo(path: Path, keys: set[str]) -> Albedo:
    """FLAME_texture.npz (0–255) or an albedo model (0–1); both are BGR with v = 1 in row 0."""
    mean_key, basis_key = ("mean", "tex_dir") if "tex_dir" in keys else ("MU", "PC")
    mean = npz_array(path, mean_key).astype(np.float32).ravel()
    side = round((mean.size / 3) ** 0.5)
    shape = npz_shape(path, basis_key)
    modes = shape[-1] if len(shape) > 1 else 0
    if side * side * 3 != mean.size or not 1 <= modes <= 1000 or int(np.prod(shape, dtype=object)) != mean.size * modes:
        raise HeadModelError(f"'{path}' has a texture of {mean.size} numbers and a basis of {shape}; expected R·R·3")
    scale = 255.0 if mean.max() > 2 else 1.0
    factor = max(1, side // ALBEDO_SIZE)
    size, kept = side // factor, min(modes, ALBEDO_COMPONENTS)
    basis = np.empty((kept, size, size, 3), np.float32)
    for row, block in enumerate(npz_blocks(path, basis_key, factor * side * 3 * modes)):
        if block.size == mean.size * modes and size > 1:  # Fortran order comes in one piece
            whole = block.reshape(side, side, 3, modes)[: size * factor, : size * factor, :, :kept].astype(np.float32)
            pooled = whole.reshape(size, factor, size, factor, 3, kept).mean(axis=(1, 3))
            basis[:] = pooled.transpose(3, 0, 1, 2)
            break
        if row < size:
            lines = block.reshape(-1, side, 3, modes)[:, : size * factor, :, :kept].astype(np.float32)
            basis[:, row] = lines.reshape(-1, size, factor, 3, kept).mean(axis=(0, 2)).transpose(2, 0, 1)
    image = mean.reshape(side, side, 3)[: size * factor, : size * factor]
    image = image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    if not (np.isfinite(image).all() and np.isfinite(basis).all()):
        raise HeadModelError(f"'{path}' holds numbers that are not finite; download it again")
    bgr_to_rgb = [2, 1, 0]
    return Albedo((image[..., bgr_to_rgb] / scale).clip(0, 1).astype(np.float32), basis[..., bgr_to_rgb] / scale)
