"""Figures after the paper's, as PNG: teaser, comparison grid, pose-aware comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from tokenface.core.files import write_atomically
from tokenface.errors import EvaluationError
from tokenface.evaluation.mesh_files import read_mesh, read_seven_landmarks
from tokenface.formats.mesh import png_bytes
from tokenface.geometry.camera import Camera, fit_camera
from tokenface.geometry.crop import extract
from tokenface.geometry.landmarks import NOW7
from tokenface.render.overlay import PhotoFace, landmarks_over_photo, mesh_over_photo, shaded_meshes

if TYPE_CHECKING:
    from tokenface.images.loading import ImageItem
    from tokenface.inference.face import Face
    from tokenface.model import Reconstructor

TILE = 256
GAP = 6
CAPTION = 26
BACKGROUND = 245


@dataclass(frozen=True)
class Column:
    """title: above the column.  tiles: uint8 [TILE, TILE, 3], one per row; None stays empty."""

    title: str
    tiles: list[np.ndarray | None]


def comparison_grid(
    models: Sequence[Reconstructor], photos: Sequence[str | Path], others: Mapping[str, Path] | None = None
) -> np.ndarray:
    """Fig. 5: a row per photo; the photo, then overlay and shape of every set of weights, and of other methods.

    Args:
        others: method → folder of its meshes, `<photo>.obj` or `.ply` with seven landmarks in `.npy` or `.txt` beside
            (NoW's layout); each is placed where our face has these landmarks. What is missing stays empty.
    Raises:
        EvaluationError: no photo shows a face, or a mesh cannot be read.
    """
    predictions = [_largest_faces(model, photos) for model in models]
    crops = _common_crops(predictions)
    columns = [Column("photo", [None if crop is None else _cut(*crop) for crop in crops])]
    for model, faces in zip(models, predictions, strict=True):
        name = model.origin.weights
        columns.append(Column(f"{name}: overlay", [_tile(f, c, "overlay") for f, c in zip(faces, crops, strict=True)]))
        columns.append(Column(f"{name}: shape", [_tile(f, c, "shape") for f, c in zip(faces, crops, strict=True)]))
    for name, folder in (others or {}).items():
        pairs = zip(photos, crops, strict=True)
        placed = [None if crop is None else _other(folder, Path(photo), crop) for photo, crop in pairs]
        for look in ("overlay", "shape"):
            tiles = [
                None if shown is None or crop is None else _shown(shown, crop, look)
                for shown, crop in zip(placed, crops, strict=True)
            ]
            columns.append(Column(f"{name}: {look}", tiles))
    return grid(columns)


def pose_comparison(models: Sequence[Reconstructor], photos: Sequence[str | Path]) -> np.ndarray:
    """Fig. 7: photos by how far the head is turned, the most frontal first, with landmarks and overlay."""
    predictions = [_largest_faces(model, photos) for model in models]
    turned = [np.inf if face is None else abs(face.camera.angles[0]) for face in predictions[0]]
    order = [int(index) for index in np.argsort(turned, kind="stable")]
    predictions = [[faces[index] for index in order] for faces in predictions]
    crops = _common_crops(predictions)
    columns = []
    for model, faces in zip(models, predictions, strict=True):
        for look in ("landmarks", "overlay"):
            tiles = [_tile(face, crop, look) for face, crop in zip(faces, crops, strict=True)]
            columns.append(Column(f"{model.origin.weights}: {look}", tiles))
    return grid(columns)


def teaser(model: Reconstructor, photos: Sequence[str | Path]) -> np.ndarray:
    """Fig. 1: photo, overlay, shape, the same person with a relaxed face, and, with several photos, doing what the
    next photo's person does."""
    faces = _largest_faces(model, photos)
    crops = _common_crops([faces])
    columns = [Column("photo", [None if crop is None else _cut(*crop) for crop in crops])]
    for look in ("overlay", "shape", "relaxed"):
        columns.append(Column(look, [_tile(face, crop, look) for face, crop in zip(faces, crops, strict=True)]))
    people = [face for face in faces if face is not None]
    if len(people) > 1:
        following = iter([*people[1:], people[0]])
        worn = [None if face is None else _wearing(face, next(following)) for face in faces]
        tiles = [_tile(face, crop, "shape") for face, crop in zip(worn, crops, strict=True)]
        columns.append(Column("next one's expression", tiles))
    return grid(columns)


def _wearing(face: Face, source: Face) -> Face:
    """The face with the expression and jaw of another one of the same head model."""
    theirs = source.parameters
    return replace(face, parameters=face.parameters.replace(expression=theirs.expression, jaw=theirs.jaw))


def _other(folder: Path, photo: Path, crop: tuple[ImageItem, Face]) -> PhotoFace | None:
    """Another method's mesh of a photo in the tile's pixels, placed by seven landmarks."""
    mesh = next((p for s in (".obj", ".ply") if (p := folder / f"{photo.stem}{s}").is_file()), None)
    points = next((p for s in (".npy", ".txt") if (p := folder / f"{photo.stem}{s}").is_file()), None)
    if mesh is None or points is None:
        return None
    found, seven = read_mesh(mesh), read_seven_landmarks(points)
    ours = crop[1].crop.scaled(1.15).to_ndc(crop[1].landmarks[list(NOW7)])
    unit = np.linalg.norm(seven - seven.mean(0), axis=1).mean()
    camera = Camera.from_vector(torch.from_numpy(fit_camera(seven / unit, ours)).float()[None])
    with torch.no_grad():
        ndc = camera.project(torch.from_numpy(found.vertices / unit).float()[None])[0].numpy()
        marks = camera.project(torch.from_numpy(seven / unit).float()[None])[0].numpy()
    placed = ndc * (TILE / 2)
    placed[:, :2] += TILE / 2
    marks = marks[:, :2] * (TILE / 2) + TILE / 2
    return PhotoFace(placed.astype(np.float32), np.asarray(found.faces), marks.astype(np.float32))


def _shown(face: PhotoFace, crop: tuple[ImageItem, Face], look: str) -> np.ndarray:
    return shaded_meshes([face], TILE, TILE) if look == "shape" else mesh_over_photo(_cut(*crop), [face])


def grid(columns: Sequence[Column]) -> np.ndarray:
    """Columns of tiles under their titles: uint8 [H, W, 3]."""
    rows = max(len(column.tiles) for column in columns)
    height, width = CAPTION + rows * (TILE + GAP) + GAP, len(columns) * (TILE + GAP) + GAP
    sheet = np.full((height, width, 3), BACKGROUND, np.uint8)
    for place, column in enumerate(columns):
        left = GAP + place * (TILE + GAP)
        text = column.title.encode("ascii", "replace").decode()[:34]
        cv2.putText(sheet, text, (left + 2, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        for row, tile in enumerate(column.tiles):
            if tile is not None:
                top = CAPTION + row * (TILE + GAP)
                sheet[top : top + TILE, left : left + TILE] = tile
    return sheet


def write_picture(path: str | Path, picture: np.ndarray) -> Path:
    """uint8 [H, W, 3] as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_atomically(path, png_bytes(picture))


def _largest_faces(model: Reconstructor, photos: Sequence[str | Path]) -> list[Face | None]:
    results = list(model.iterate(list(photos), max_faces=1))
    faces = [result.faces[0] if result.faces else None for result in results]
    if not any(face is not None for face in faces):
        raise EvaluationError("none of the photos shows a face; a figure needs one")
    return faces


def _common_crops(predictions: Sequence[Sequence[Face | None]]) -> list[tuple[ImageItem, Face] | None]:
    """For every photo the first face that any of the weights has there: all columns are cut alike."""
    return [
        next(((face.item, face) for face in row if face is not None), None) for row in zip(*predictions, strict=True)
    ]


def _tile(face: Face | None, crop: tuple[ImageItem, Face] | None, look: str) -> np.ndarray | None:
    """A photo's face in one look, cut like the photo."""
    if face is None or crop is None:
        return None
    photo = crop[1].crop.scaled(1.15)
    vertices = face.neutral_vertices if look == "relaxed" else face.vertices
    depth = face.camera.depth(vertices) * face.camera.pixels_per_metre
    placed = photo.to_ndc(np.column_stack([face.camera.project(vertices), depth])) * (TILE / 2)
    placed[:, :2] += TILE / 2
    marks = photo.to_ndc(face.landmarks) * (TILE / 2) + TILE / 2
    shown = PhotoFace(placed.astype(np.float32), face.faces, marks.astype(np.float32))
    if look in ("shape", "relaxed"):
        return shaded_meshes([shown], TILE, TILE)
    picture = _cut(*crop)
    return landmarks_over_photo(picture, [shown]) if look == "landmarks" else mesh_over_photo(picture, [shown])


def _cut(item: ImageItem, face: Face) -> np.ndarray:
    pixels = extract(item.load(), [face.crop.scaled(1.15)], TILE)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray((pixels * 255).round().clip(0, 255).astype(np.uint8))
