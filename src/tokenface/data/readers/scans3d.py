"""Readers of the paper's 3-D data sets (Sec. 4.1): MICA's FLAME fits beside the photos, FaceScape, WCPA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.core.files import read_json
from tokenface.data.readers.dataset import (
    MICA_FLAME,
    DatasetReader,
    FlameParameters,
    Loaded,
    ScanMesh,
    folders_in,
    key_of,
    pictures_in,
    read_landmarks,
)
from tokenface.data.record import Item
from tokenface.errors import DataError, HeadModelError
from tokenface.head.obj_file import read_obj, triangulate
from tokenface.head.restricted_pickle import load_npy
from tokenface.images.loading import load_image

MAX_PARAMETER_BYTES = 1 << 22
FLORENCE_UNUSED, FRGC_UNUSED = "PTZ-Outdoor", "Spring2003range"
MILLIMETRE = 1e-3


def find_stirling(root: Path) -> Iterator[Item]:
    """`images/Real_images__Subset_2D_FG2018/HQ/*`, `FLAME_parameters/iter1/<actor>/*.npz`.

    A picture belongs to the actor with whose name its own begins (F1001…, M1024…).
    """
    listed = _listed(root, "STIRLING")
    if listed is not None:
        yield from listed
        return
    actors = {p.name.split("_")[0].lower(): _first_npz(p) for p in folders_in(root / "FLAME_parameters" / "iter1")}
    for path in pictures_in(root / "images" / "Real_images__Subset_2D_FG2018" / "HQ"):
        actor = path.stem.split("_")[0].lower()
        matching = next((a for a in (actor, actor[:5]) if a in actors), None)
        if matching is not None:
            yield _scan_item(path, root, matching, actors[matching])


def find_florence(root: Path) -> Iterator[Item]:
    """`images/<subject>/<recording>/*.jpg` without the far outdoor camera, `FLAME_parameters/iter1/<subject>/*.npz`."""
    listed = _listed(root, "FLORENCE")
    if listed is not None:
        yield from listed
        return
    for subject in folders_in(root / "images"):
        parameters = _first_npz(root / "FLAME_parameters" / "iter1" / subject.name)
        for recording in folders_in(subject):
            if FLORENCE_UNUSED in recording.name:
                continue
            for path in pictures_in(recording):
                yield _scan_item(path, root, subject.name, parameters)


def find_lyhm(root: Path) -> Iterator[Item]:
    """`<actor>/{*.png, *.npz}`; the pictures are those beside the fit."""
    listed = _listed(root, "LYHM")
    if listed is not None:
        yield from listed
        return
    for actor in folders_in(root):
        parameters = _first_npz(actor)
        for path in pictures_in(actor):
            if parameters is not None:
                yield _scan_item(path, root, actor.name, parameters)


def find_facewarehouse(root: Path) -> Iterator[Item]:
    """`Images/Tester_k/*.png`, `FLAME_fits/Tester_k/*.npz`: a fit of the picture's own name has its expression
    (pose_0 is neutral); pictures without one take the neutral shape."""
    listed = _listed(root, "FACEWAREHOUSE")
    if listed is not None:
        yield from listed
        return
    for tester in folders_in(root / "Images"):
        fits = {p.stem: p for p in sorted((root / "FLAME_fits" / tester.name).glob("*.npz"))}
        for path in pictures_in(tester):
            own, neutral = fits.get(path.stem), fits.get("pose_0")
            chosen = own or neutral or next(iter(fits.values()), None)
            yield _scan_item(path, root, tester.name, chosen, neutral=own is None or path.stem == "pose_0")


def find_frgc(root: Path) -> Iterator[Item]:
    """`images/<id>/<session>/*.jpg` without the range session, `FLAME_parameters/<id>/*.npz`."""
    listed = _listed(root, "FRGC")
    if listed is not None:
        yield from listed
        return
    for person in folders_in(root / "images"):
        parameters = _first_npz(root / "FLAME_parameters" / person.name)
        for session in folders_in(person):
            if FRGC_UNUSED in session.name:
                continue
            for path in pictures_in(session):
                yield _scan_item(path, root, person.name, parameters)


def _listed(root: Path, name: str) -> Iterator[Item] | None:
    """MICA's form, when the folder has it: `image_paths/<NAME>.npy` with actor → ([pictures], parameters), below it
    `<NAME>/{images, FLAME_parameters}/<actor>/`."""
    base = next((p for p in (root, root.parent) if (p / "image_paths" / f"{name}.npy").is_file()), None)
    if base is None:
        return None
    try:
        table = load_npy(base / "image_paths" / f"{name}.npy")
    except HeadModelError as error:
        raise DataError(str(error)) from error
    if not isinstance(table, dict):
        raise DataError(f"'{base / 'image_paths' / (name + '.npy')}' holds a {type(table).__name__}, expected a dict")
    return _from_list(table, base / name, root)


def _from_list(table: dict[Any, Any], folder: Path, root: Path) -> Iterator[Item]:
    for actor in sorted(table, key=str):
        try:
            pictures, parameters = table[actor]
            names = sorted(str(p) for p in pictures)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the list of pictures has an odd entry for '{actor}': expected ([pictures], npz)"
            ) from error
        for name in names:
            # MICA keeps 112-pixel features beside the pictures it lists; the picture has the same name
            path = _below(folder, "images", str(actor), name)
            candidates = [path.with_suffix(s) for s in (".jpg", ".png", ".jpeg")] if path.suffix == ".npy" else [path]
            found = next((p for p in candidates if p.is_file()), candidates[0])
            yield _scan_item(found, root, str(actor), _below(folder, "FLAME_parameters", str(actor), str(parameters)))


def _below(folder: Path, part: str, actor: str, name: str) -> Path:
    """A listed path, whatever folder it was written for, as a file of this data set; nothing outside of it."""
    pieces = [piece for piece in Path(name).parts if piece not in ("..", "/")]
    tail = pieces[pieces.index(actor) :] if actor in pieces else [actor, pieces[-1]]
    return folder / part / Path(*tail)


def _scan_item(path: Path, root: Path, person: str, parameters: Path | None, neutral: bool = True) -> Item:
    if parameters is None:
        raise DataError(
            f"no FLAME parameters (.npz) for '{person}' of '{path}'; MICA's fits belong beside the pictures"
        )
    return Item(key_of(path, root), "scan", (path,), person, files=(("geometry", parameters),), neutral=neutral)


def _first_npz(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.npz"))), None) if folder.is_dir() else None


def load_mica(item: Item) -> Loaded:
    """`betas` (300 shape, then expression) and `pose` (3 global, 3 neck, 3 jaw, 6 eyes), as MICA's files have them."""
    path = item.file("geometry")
    assert path is not None
    arrays = read_npz(path)
    if "betas" not in arrays:
        raise DataError(f"'{path}' has no 'betas'; expected FLAME parameters of MICA")
    betas = arrays["betas"].astype(np.float32).ravel()
    pose = arrays.get("pose", np.zeros(15)).astype(np.float32).ravel()
    if len(betas) < 10 or not np.isfinite(betas).all() or not np.isfinite(pose).all() or len(pose) < 9:
        raise DataError(f"'{path}' has {len(betas)} betas and {len(pose)} pose numbers; expected 400 and 15")
    geometry = FlameParameters(betas[:300], betas[300:], pose[6:9], item.neutral)
    return Loaded([load_image(item.pictures[0])], [None], geometry)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Plain arrays of an .npz.

    Raises:
        DataError: missing, damaged, with pickled objects, or much larger than parameters are.
    """
    try:
        with open_arrays(path, MAX_PARAMETER_BYTES) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged zip can fail anywhere
        raise DataError(f"'{path}' cannot be read ({str(error)[:100] or type(error).__name__})") from error


def find_facescape(root: Path) -> Iterator[Item]:
    """Multi-view pictures `<id>/<exp>/<view>.jpg` with `params.json`; registered meshes `models_reg/<id>_<exp>.obj` or
    `<id>/models_reg/<exp>.obj` make them scans. Views marked invalid are left out."""
    landmarks = next(iter(sorted(root.rglob("landmark_indices.npz"))), None)
    for parameters in sorted(root.rglob("params.json")):
        folder = parameters.parent
        person, expression = folder.parent.name, folder.name
        valid = _valid_views(parameters)
        mesh = next(
            (p for p in _facescape_meshes(root, folder.parent, person, expression) if p.is_file()),
            None,
        )
        for path in pictures_in(folder):
            if valid.get(path.stem, True):
                files: tuple[tuple[str, Path], ...] = ()
                if mesh is not None:
                    files = (("geometry", mesh), *((("numbers", landmarks),) if landmarks else ()))
                yield Item(
                    key_of(path, root),
                    "photo" if mesh is None else "scan",
                    (path,),
                    person,
                    files=files,
                    neutral="neutral" in expression,
                )


def _facescape_meshes(root: Path, person_folder: Path, person: str, expression: str) -> list[Path]:
    return [
        person_folder / "models_reg" / f"{expression}.obj",
        root / "models_reg" / f"{person}_{expression}.obj",
        root / person / "models_reg" / f"{expression}.obj",
        *sorted(root.glob(f"*/models_reg/{person}_{expression}.obj")),
        *sorted(root.glob(f"*/{person}/models_reg/{expression}.obj")),
    ]


def _valid_views(path: Path) -> dict[str, bool]:
    try:
        content = read_json(path)
        return {key.removesuffix("_valid"): bool(v) for key, v in content.items() if key.endswith("_valid")}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"'{path}' is not FaceScape's camera file ({str(error)[:80]})") from error


def load_facescape(item: Item) -> Loaded:
    """The registered mesh; its 68 vertices come from `landmark_indices.npz` (key v10) of FaceScape's toolkit."""
    image = load_image(item.pictures[0])
    path = item.file("geometry")
    if path is None:
        return Loaded([image], [None])
    table = item.file("numbers")
    if table is None:
        raise DataError(
            "FaceScape's meshes need 'landmark_indices.npz' of its toolkit (toolkit/predef) in the data set's folder"
        )
    indices = read_npz(table).get("v10")
    try:
        mesh = read_obj(path)
    except HeadModelError as error:
        raise DataError(str(error)) from error
    if indices is None or indices.shape != (68,) or not 0 <= indices.min() <= indices.max() < len(mesh.vertices):
        raise DataError(f"'{table}' has no 68 vertices 'v10' of a mesh of {len(mesh.vertices)}")
    scan = ScanMesh(
        mesh.vertices,
        triangulate(mesh.polygons),
        mesh.vertices[indices.astype(np.int64)],
        np.arange(68),
        None,  # the registered models are brought to one size
        item.neutral,
    )
    return Loaded([image], [None], scan)


def find_wcpa(root: Path) -> Iterator[Item]:
    """`image/<subject>/<action>/<id>_ar.jpg`, `info/…/<id>_info.npz`, `68landmarks/…/<id>_68landmarks.txt`."""
    mesh, projection = root / "resources" / "example.obj", root / "resources" / "projection_matrix.txt"
    for subject in folders_in(root / "image"):
        for action in folders_in(subject):
            for path in pictures_in(action):
                name = path.stem.removesuffix("_ar")
                place = Path(subject.name) / action.name
                info = root / "info" / place / f"{name}_info.npz"
                points = root / "68landmarks" / place / f"{name}_68landmarks.txt"
                if not re.fullmatch(r".+_ar", path.stem) or not points.is_file():
                    continue
                geometry = (("geometry", info), ("mesh", mesh), ("projection", projection)) if info.is_file() else ()
                yield Item(
                    key_of(path, root),
                    "scan" if geometry else "photo",
                    (path,),
                    subject.name,
                    files=(("landmarks", points), *geometry),
                    neutral=action.name in ("000000", "neutral", "0"),
                )


def load_wcpa(item: Item) -> Loaded:
    """`verts` [1220, 3], metres, in the head's own space, `R_t` [4, 4] that brings row vectors in front of the camera.

    The mesh has no list of landmarks: each 2-D landmark of the picture marks the vertex that is projected nearest to it
    among those that face the camera, when one lies within 1.5 % of the face.
    """
    image = load_image(item.pictures[0])
    points_path, info = item.file("landmarks"), item.file("geometry")
    assert points_path is not None
    landmarks = read_landmarks(points_path) + 0.5  # whole pixels of the file are pixel centres
    mesh_path, projection_path = item.file("mesh"), item.file("projection")
    if info is None or mesh_path is None or projection_path is None:
        return Loaded([image], [landmarks])
    arrays = read_npz(info)
    if not {"verts", "R_t"} <= set(arrays):
        raise DataError(f"'{info}' has {', '.join(sorted(arrays))}; expected verts and R_t")
    vertices, pose = arrays["verts"].astype(np.float64), arrays["R_t"].astype(np.float64)
    try:
        faces = triangulate(read_obj(mesh_path).polygons)
        projection = np.loadtxt(projection_path, dtype=np.float64)
    except (HeadModelError, OSError, ValueError) as error:
        raise DataError(f"WCPA's resources cannot be read ({str(error)[:120]})") from error
    if vertices.ndim != 2 or vertices.shape[1] != 3 or pose.shape != (4, 4) or projection.shape != (4, 4):
        raise DataError(f"'{info}': verts {vertices.shape}, R_t {pose.shape}, projection {projection.shape}")
    if faces.size and faces.max() >= len(vertices):
        raise DataError(f"'{mesh_path}' has triangles of more vertices than the {len(vertices)} of '{info}'")
    numbers, marked = _marked_vertices(vertices, faces, pose, projection, landmarks, image.shape)
    scan = ScanMesh(vertices, faces, vertices[marked], numbers, 1.0, item.neutral)
    return Loaded([image], [landmarks], scan)


def _marked_vertices(
    vertices: np.ndarray,
    faces: np.ndarray,
    pose: np.ndarray,
    projection: np.ndarray,
    landmarks: np.ndarray,
    shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Which landmarks (17–67: the jaw line slides) have a vertex, and which vertex."""
    height, width = shape[:2]
    camera = np.c_[vertices, np.ones(len(vertices))] @ pose
    clip = camera @ projection
    ndc = clip[:, :2] / clip[:, 3:]
    pixels = np.stack([(ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2], axis=1)
    seen = camera[:, :3]
    corners = seen[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = (normal * corners.mean(1)).sum(1) < 0  # the camera stands at the origin
    front = np.zeros(len(vertices), bool)
    front[faces[towards].ravel()] = True
    candidates = np.flatnonzero(front)
    if not len(candidates):
        raise DataError("no triangle of the mesh faces the camera; is R_t right?")
    numbers = np.arange(17, 68)
    distance = np.linalg.norm(pixels[candidates][None] - landmarks[numbers][:, None], axis=2)
    nearest = distance.argmin(1)
    limit = 0.015 * float(np.ptp(landmarks, axis=0).mean())
    good = distance[np.arange(len(numbers)), nearest] < limit
    return numbers[good], candidates[nearest[good]]


MICA_LICENCE = "non-commercial research, by application; FLAME fits: MICA's licence"

READERS = (
    DatasetReader(
        "stirling",
        "Stirling/ESRC in MICA's form",
        MICA_LICENCE,
        "images/Real_images__Subset_2D_FG2018/HQ/* and FLAME_parameters/iter1/<actor>/*.npz",
        find_stirling,
        load_mica,
        MICA_FLAME,
    ),
    DatasetReader(
        "florence",
        "Florence 2D/3D in MICA's form",
        MICA_LICENCE,
        "images/<subject>/<recording>/*.jpg and FLAME_parameters/iter1/<subject>/*.npz",
        find_florence,
        load_mica,
        MICA_FLAME,
    ),
    DatasetReader(
        "lyhm", "LYHM in MICA's form", MICA_LICENCE, "<actor>/{*.png, *.npz}", find_lyhm, load_mica, MICA_FLAME
    ),
    DatasetReader(
        "facewarehouse",
        "FaceWarehouse in MICA's form",
        MICA_LICENCE,
        "Images/Tester_k/*.png and FLAME_fits/Tester_k/*.npz",
        find_facewarehouse,
        load_mica,
        MICA_FLAME,
    ),
    DatasetReader(
        "frgc",
        "FRGC in MICA's form",
        MICA_LICENCE,
        "images/<id>/<session>/*.jpg and FLAME_parameters/<id>/*.npz",
        find_frgc,
        load_mica,
        MICA_FLAME,
    ),
    DatasetReader(
        "facescape",
        "FaceScape",
        "non-commercial research, by application",
        "<id>/<exp>/<view>.jpg with params.json; models_reg/<id>_<exp>.obj and landmark_indices.npz for geometry",
        find_facescape,
        load_facescape,
    ),
    DatasetReader(
        "wcpa",
        "WCPA (ECCV 2022 challenge, track 2)",
        "non-commercial research, by application",
        "image/<subject>/<action>/<id>_ar.jpg, info/…_info.npz, 68landmarks/…_68landmarks.txt, resources/",
        find_wcpa,
        load_wcpa,
    ),
)
