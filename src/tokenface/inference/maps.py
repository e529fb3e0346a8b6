"""Per-pixel maps of one face on its photo: depth, normals, texture coordinates, PNCC, parts.

Every map lies on the photo's own pixels. With a solved lens, attributes are interpolated perspective-correctly:
a / z and 1 / z are linear on the picture, a alone is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenface.errors import OutputError
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.data import HeadData
from tokenface.render.raster_arrays import ArrayFragments, at_pixels, rasterize_arrays

PARTS = (
    *("background", "skin", "neck", "scalp", "ears", "nose", "brows", "lips", "mouth", "teeth", "tongue"),
    *("left_eye", "right_eye"),
)
"""Labels of the part map, by number; left and right are the subject's."""
_REGIONS = {
    "neck": ("neck", "boundary"),
    "scalp": ("scalp",),
    "ears": ("ears", "left_ear", "right_ear"),
    "nose": ("nose",),
    "brows": ("brows", "left_brow", "right_brow"),
    "lips": ("lips",),
    "mouth": ("mouth_interior", "mouth_socket"),
    "teeth": ("teeth", "upper_teeth", "lower_teeth"),
    "tongue": ("tongue", "gums_and_tongue"),
    "left_eye": ("left_eyeball",),
    "right_eye": ("right_eyeball",),
}
"""Regions of head models that make each label; later ones win."""


@dataclass(frozen=True)
class FaceMaps:
    """Maps over a rectangle of the photo, h × w pixels; zeros where `mask` is False.

    box: x0, y0, x1, y1 of the rectangle, whole photo pixels; pixel (0, 0) has its centre at x0 + 0.5, y0 + 0.5.
    photo_size: (height, width).  mask: [h, w] bool.
    depth: [h, w] float32, metres behind the plane through the head's origin across the line of sight; small is near.
    normals: [h, w, 3] float32, unit length, x right, y up, z towards the viewer.
    uv: [h, w, 2] float32 in [0, 1], u right, v up.
    pncc: [h, w, 3] float32 in [0, 1]: place of the point on the mean head, x, y, z over that head's bounding box.
    parts: [h, w] uint8, index into `PARTS`.
    """

    box: tuple[int, int, int, int]
    photo_size: tuple[int, int]
    mask: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    pncc: np.ndarray
    parts: np.ndarray

    def on_photo(self, values: np.ndarray) -> np.ndarray:
        """A map over the whole photo, [H, W, …], zeros outside of the rectangle."""
        x0, y0, x1, y1 = self.box
        whole = np.zeros((*self.photo_size, *values.shape[2:]), values.dtype)
        whole[y0:y1, x0:x1] = values
        return whole


def face_maps(head: HeadData, vertices: np.ndarray, camera: FaceCamera) -> FaceMaps:
    """Maps of a posed head.

    Args:
        head: topology, texture coordinates, mean head and regions.
        vertices: [V, 3], metres, head space.
        camera: from there to the photo.
    Raises:
        OutputError: no part of the head lies on the photo.
    """
    box = _box(camera.project(vertices), camera.photo_size)
    fragments = _fragments(vertices, camera, head.faces, box)
    mask, ids = fragments.mask[0], fragments.triangle_ids[0]
    inverse_distance = _inverse_distance(vertices, camera)

    def over(values: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """[N, C] per corner index → [h, w, C], perspective-correct."""
        per_corner = values[corners.reshape(-1)].astype(np.float64) * inverse_distance[head.faces.reshape(-1), None]
        columns = np.column_stack([per_corner, inverse_distance[head.faces.reshape(-1)]])
        found = at_pixels(fragments, columns, np.arange(len(columns)).reshape(-1, 3))
        image = np.zeros((*mask.shape, values.shape[1]), np.float32)
        image[mask] = found[:, :-1] / found[:, -1:]
        return image

    normals = over(mesh_normals(vertices, head.faces) @ _axes(camera).T, head.faces)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    low, high = head.template.min(axis=0), head.template.max(axis=0)
    labels = triangle_parts(head)
    return FaceMaps(
        box=box,
        photo_size=camera.photo_size,
        mask=mask,
        depth=over(camera.depth(vertices)[:, None], head.faces)[..., 0].astype(np.float32),
        normals=(normals / length.clip(1e-12)).astype(np.float32),
        uv=over(head.uv, head.uv_faces).astype(np.float32),
        pncc=over((head.template - low) / (high - low), head.faces).clip(0, 1).astype(np.float32),
        parts=np.where(mask, labels[ids], 0).astype(np.uint8),
    )


def coverage(head: HeadData, vertices: np.ndarray, camera: FaceCamera, box: tuple[int, int, int, int]) -> np.ndarray:
    """[h, w] float32 in [0, 1]: share of each pixel of the rectangle that the head covers, of 4 × 4 samples."""
    factor = 4
    x0, y0, x1, y1 = box
    rows, step = [], max(1, (1 << 22) // (factor * factor * (x1 - x0)))
    for top in range(y0, y1, step):
        band = (x0, top, x1, min(top + step, y1))
        mask = _fragments(vertices, camera, head.faces, band, factor).mask[0]
        rows.append(mask.reshape(-1, factor, x1 - x0, factor).mean(axis=(1, 3), dtype=np.float32))
    return np.concatenate(rows)


def triangle_parts(head: HeadData) -> np.ndarray:
    """[F] uint8 label of each triangle: the last part whose regions hold all three of its corners, else skin."""
    labels = np.full(len(head.faces), PARTS.index("skin"), np.uint8)
    for part, names in _REGIONS.items():
        inside = np.zeros(len(head.template), bool)
        for name in names:
            inside[head.regions.get(name, np.empty(0, int))] = True
        labels[inside[head.faces].all(axis=1)] = PARTS.index(part)
    return labels


def _box(points: np.ndarray, photo_size: tuple[int, int]) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    height, width = photo_size
    low = max(math.floor(left), 0), max(math.floor(top), 0)
    box = (*low, min(math.ceil(right), width), min(math.ceil(bottom), height))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise OutputError("no part of the head lies on the photo, so there is nothing to draw maps of")
    return box


def _fragments(
    vertices: np.ndarray, camera: FaceCamera, faces: np.ndarray, box: tuple[int, int, int, int], factor: int = 1
) -> ArrayFragments:
    x0, y0, x1, y1 = box
    ndc = (camera.project(vertices) - (x0, y0)) * (2 / (x1 - x0), 2 / (y1 - y0)) - 1
    # Depth of triangles is linear on the picture as it is (orthographic), or in 1 / z (perspective).
    z = camera.depth(vertices) if camera.lens is None else -_inverse_distance(vertices, camera)
    return rasterize_arrays(np.column_stack([ndc, z])[None], faces, (y1 - y0) * factor, (x1 - x0) * factor)


def _inverse_distance(vertices: np.ndarray, camera: FaceCamera) -> np.ndarray:
    """[V]: 1 / z of the lens, per metre; ones for the orthographic camera."""
    if camera.lens is None:
        return np.ones(len(vertices))
    return 1 / (camera.depth(vertices) + camera.lens.t[2])


def _axes(camera: FaceCamera) -> np.ndarray:
    """[3, 3], head space to x right, y up, z towards the viewer."""
    return camera.rotation if camera.lens is None else np.diag([1.0, -1.0, -1.0]) @ camera.lens.R
