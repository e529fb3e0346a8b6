"""Textured mesh shared by the writers, and its split along UV seams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.subdivision import Subdivision


@dataclass(frozen=True)
class TexturedMesh:
    """A head as files carry it. Metres, +x subject's left, +y up, +z out of the face (glTF's axes as well).

    vertices: [V, 3] float32.  faces: [F, 3], counter-clockwise from outside.
    uv: [T, 2] in [0, 1], u right, v up.  uv_faces: [F, 3], indices into uv.
    normals: [V, 3], unit length.  texture: [R, R, 3] uint8 sRGB albedo, row 0 at v = 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    normals: np.ndarray
    texture: np.ndarray
    name: str = "face"
    facts: dict[str, object] = field(default_factory=dict)  # written as comments or extras where a format has them


@dataclass(frozen=True)
class SeamSplit:
    """One vertex per (position, texture coordinate) pair, as GLB and renderers want.

    source: [N] head-model vertex of each split vertex.  uv: [N, 2].  faces: [F, 3] into the N vertices.
    """

    source: np.ndarray
    uv: np.ndarray
    faces: np.ndarray


def split_seams(faces: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray) -> SeamSplit:
    """Duplicate vertices on texture seams; vertices that no face uses are dropped."""
    corners = np.stack([faces.reshape(-1), uv_faces.reshape(-1)], axis=1).astype(np.int64)
    pairs, inverse = np.unique(corners, axis=0, return_inverse=True)
    return SeamSplit(pairs[:, 0], uv[pairs[:, 1]].astype(np.float32), inverse.reshape(-1, 3).astype(np.int64))


def file_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] float32 of vertices [V, 3], as files carry them: vertices without a face point to +z."""
    normals = mesh_normals(vertices, faces)
    normals[~normals.any(axis=1)] = (0.0, 0.0, 1.0)
    return normals.astype(np.float32)


def morph_normals(rest: np.ndarray, morphs: np.ndarray, faces: np.ndarray) -> Iterator[np.ndarray]:
    """[V, 3] float32 for each of the morphs [M, V, 3]: what it adds to the rest mesh's vertex normals."""
    rest = rest.astype(np.float64)
    at_rest = mesh_normals(rest, faces)
    for morph in morphs:
        yield (mesh_normals(rest + morph, faces) - at_rest).astype(np.float32)


def rounded_mesh(mesh: TexturedMesh, round: Subdivision) -> TexturedMesh:
    """The mesh with its long triangles split; its own vertices come first, in their order and places."""
    vertices = round.places(mesh.vertices)
    return replace(
        mesh,
        vertices=vertices,
        faces=round.faces,
        uv=round.coordinates(mesh.uv),
        uv_faces=round.uv_faces,
        normals=file_normals(vertices, round.faces),
    )


def vertex_colours(mesh: TexturedMesh) -> np.ndarray:
    """The texture at every vertex, bilinear: [V, 3] uint8. A seam vertex takes one of its texture coordinates."""
    coordinate = np.zeros(len(mesh.vertices), dtype=np.int64)
    coordinate[mesh.faces.reshape(-1)] = mesh.uv_faces.reshape(-1)
    uv = mesh.uv[coordinate].astype(np.float64)
    height, width = mesh.texture.shape[:2]
    # Texel centres are at +0.5; rows go down while v goes up.
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip((1 - uv[:, 1]) * height - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    texture = mesh.texture.astype(np.float64)
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return np.clip(np.round(top * (1 - fy) + bottom * fy), 0, 255).astype(np.uint8)


def png_bytes(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def fact_lines(facts: dict[str, object]) -> list[str]:
    """`key: value`, one printable ASCII line each, for the comments of text formats."""
    lines = [" ".join(f"{key}: {value}".split()) for key, value in facts.items()]
    return [line.encode("ascii", "replace").decode() for line in lines]
