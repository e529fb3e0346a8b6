"""Scan folders (mesh, texture, landmarks, photos), brought into head space.

one_person/   scan.obj or .ply, one of them
              the texture that the .mtl names, or <scan>.jpg, or color.jpg (PNG as well); optional
              <scan>.pp, .lnd, .ljson or .txt with 7 (NoW's) or 68 (iBUG's) points; optional
              photos/ with pictures of the person; optional
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tokenface.core.files import read_json, read_text
from tokenface.errors import EvaluationError, HeadModelError
from tokenface.evaluation.mesh_files import read_indexed_points, read_mesh, read_picked_points, seven_points
from tokenface.geometry.landmarks import NOW7
from tokenface.geometry.similarity import procrustes
from tokenface.head.model import HeadModel
from tokenface.head.obj_file import read_obj
from tokenface.images.loading import load_image

MESHES = (".obj", ".ply")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
LARGEST_TEXTURE = 2048


@dataclass(frozen=True, eq=False)
class TexturedScan:
    """A scan in head space, millimetres by the mean head's size (scans need no unit; ratios do not depend on it).

    vertices: [V, 3].  faces: [F, 3].  seven: [7, 3], or None where they are still to be found; vertices then are as in
    the file.  uv: [T, 2], uv_faces: [F, 3], texture: [H, W, 3] uint8 RGB, or all None.  photos: files.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    seven: np.ndarray | None
    uv: np.ndarray | None
    uv_faces: np.ndarray | None
    texture: np.ndarray | None
    photos: tuple[Path, ...]

    def placed(self, head: HeadModel, seven: np.ndarray) -> TexturedScan:
        """The scan in head space, by the seven landmarks in its own."""
        pose = procrustes(seven, 1000 * mean_seven(head))
        return TexturedScan(
            self.name, pose.apply(self.vertices), self.faces, pose.apply(seven), self.uv, self.uv_faces, self.texture,
            self.photos,
        )  # fmt: skip


def mean_seven(head: HeadModel) -> np.ndarray:
    """[7, 3] NoW's landmarks of the mean head, metres."""
    return head.landmarks68(head.template[None])[0, list(NOW7)].double().numpy()


def read_scans(folder: Path, head: HeadModel) -> list[TexturedScan]:
    """The scan of a folder, or those of its subfolders.

    Raises:
        EvaluationError: no scan, several in one folder, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise EvaluationError(f"'{folder}' is no folder; give one with a mesh, or one of such folders")
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [(place, _files(place, MESHES)) for place in places]
    found = [(place, meshes) for place, meshes in found if meshes]
    if not found:
        raise EvaluationError(f"'{folder}' holds no scan; expected an .obj or .ply in it or in its subfolders")
    for place, meshes in found:
        if len(meshes) > 1:
            raise EvaluationError(f"'{place}' holds {len(meshes)} meshes; keep one scan in a folder")
    return [_read(place, meshes[0], head) for place, meshes in found]


def _read(place: Path, path: Path, head: HeadModel) -> TexturedScan:
    uv = uv_faces = texture = None
    picture = _texture_file(place, path)
    if path.suffix.lower() == ".obj" and picture is not None:
        try:
            mesh = read_obj(path)
        except HeadModelError as error:
            raise EvaluationError(str(error)) from error
        vertices, faces = mesh.vertices, _triangles(mesh.polygons)
        if len(mesh.uv_polygons):
            uv, uv_faces, texture = mesh.uv, _triangles(mesh.uv_polygons), _small(load_image(picture))
    else:
        plain = read_mesh(path)
        vertices, faces = plain.vertices, plain.faces
    photos = tuple(p for name in ("photos", "images", "views") for p in _files(place / name, PICTURES))
    scan = TexturedScan(place.name, vertices, faces, None, uv, uv_faces, texture, photos)
    seven = _landmarks(path, head)
    return scan if seven is None else scan.placed(head, seven)


def _files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.suffix.lower() in suffixes) if place.is_dir() else []


def _texture_file(place: Path, mesh: Path) -> Path | None:
    names = []
    for material in _files(place, (".mtl",)):
        rows = material.read_text(encoding="latin-1").splitlines()
        names += [Path(row.split(maxsplit=1)[1].strip()).name for row in rows if row.strip().startswith("map_Kd ")]
    names += [f"{stem}{suffix}" for stem in (mesh.stem, "color", "colour", "texture") for suffix in PICTURES]
    return next((place / name for name in names if (place / name).is_file()), None)


def _triangles(polygons: np.ndarray) -> np.ndarray:
    """[P, 4] padded polygons → [F, 3]; the second triangle only of true quads."""
    quads = polygons[polygons[:, 3] != polygons[:, 2]]
    return np.concatenate([polygons[:, :3], quads[:, [0, 2, 3]]]).astype(np.int64)


def _small(image: np.ndarray) -> np.ndarray:
    factor = LARGEST_TEXTURE / max(image.shape[:2])
    if factor >= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _landmarks(mesh: Path, head: HeadModel) -> np.ndarray | None:
    for suffix in (".pp", ".lnd", ".ljson", ".txt"):
        path = mesh.with_suffix(suffix)
        if path.is_file():
            if suffix == ".ljson":
                return _labelled(path, head)
            if suffix in (".pp", ".lnd"):
                return (read_picked_points if suffix == ".pp" else read_indexed_points)(path)
            try:
                points = np.loadtxt(read_text(path).splitlines(), ndmin=2, delimiter=None)
            except (OSError, ValueError) as error:
                raise EvaluationError(f"'{path}' does not hold landmarks, a point with x y z on each line") from error
            return seven_points(path, points[list(NOW7)] if len(points) == 68 else points)
    return None


def _labelled(path: Path, head: HeadModel) -> np.ndarray:
    """Seven points of a menpo `.ljson`: in iBUG's order, or by the labels of eyes, nose and mouth in any order."""
    try:
        document = read_json(path)
        group = next(iter(document["groups"].values())) if "groups" in document else document
        points = np.asarray(group["landmarks"]["points"], dtype=np.float64)
        labels = {entry["label"]: points[entry["mask"]] for entry in group.get("labels", [])}
    except (ValueError, KeyError, TypeError, IndexError, StopIteration, OSError) as error:
        raise EvaluationError(f"'{path}' is no readable .ljson of landmarks ({error})") from error
    choices = [points[list(NOW7)]] if len(points) == 68 else []
    eyes, mouth, nose = [labels[n] for n in ("leye", "reye") if n in labels], labels.get("mouth"), labels.get("nose")
    if len(eyes) == 2 and mouth is not None and nose is not None and len(nose) == 9:
        for first, second in (eyes, eyes[::-1]):
            axis = second.mean(0) - first.mean(0)
            choices.append(np.stack([
                *_ends(first, axis), *_ends(second, axis), nose[6], *_ends(mouth, axis)
            ]))  # fmt: skip
    if not choices:
        raise EvaluationError(f"'{path}' has {len(points)} landmarks; expected 68 in iBUG's order, or labelled groups")
    known = mean_seven(head)
    best = min(choices, key=lambda seven: float(((procrustes(seven, known).apply(seven) - known) ** 2).sum()))
    return seven_points(path, best)


def _ends(points: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    along = points @ axis
    return points[along.argmin()], points[along.argmax()]


def scan_tensors(scan: TexturedScan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texture [1, 3, H, W] in [0, 1], uv [T, 2], faces and uv_faces [F, 3].

    Raises:
        EvaluationError: a scan without a texture.
    """
    if scan.texture is None or scan.uv is None or scan.uv_faces is None:
        raise EvaluationError(f"the scan '{scan.name}' has neither photos nor a texture to render it with")
    texture = torch.from_numpy(scan.texture.copy()).permute(2, 0, 1)[None].float().div_(255)
    return texture, torch.from_numpy(scan.uv).float(), torch.from_numpy(scan.faces), torch.from_numpy(scan.uv_faces)
