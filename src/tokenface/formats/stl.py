"""Binary STL for 3-D printing: closed mesh, millimetres, z up by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokenface.core.files import write_atomically
from tokenface.formats.axes import Axes
from tokenface.formats.mesh import TexturedMesh

PRINTING = Axes("mm", "z")


def write_stl(path: str | Path, mesh: TexturedMesh, axes: Axes = PRINTING) -> Path:
    """Write a little-endian binary STL whose open borders (the neck) are closed by a fan about their middle.

    Raises:
        OutputError: the file cannot be written.
    """
    vertices, faces = closed(mesh.vertices, mesh.faces)
    corners = axes.points(vertices)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    # slicers look at the corners; a header that begins with 'solid' would be taken for a text file
    header = f"TokenFace, {axes}".encode("ascii", "replace")[:80].ljust(80)
    rows = np.zeros(len(faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
    rows["normal"], rows["corners"] = normals, corners
    return write_atomically(path, header + np.uint32(len(faces)).astype("<u4").tobytes() + rows.tobytes())


def closed(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mesh without open borders: one vertex more for each, in its middle, and triangles to it.

    Args:
        vertices: [V, 3].  faces: [F, 3], consistently oriented.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    there = {(a, b) for a, b in edges.tolist()}
    onward = {b: a for a, b in edges.tolist() if (b, a) not in there}  # along the border, the other way round
    extra: list[np.ndarray] = []
    more: list[list[int]] = []
    while onward:
        ring = [next(iter(onward))]
        while (after := onward.pop(ring[-1], None)) is not None and after != ring[0]:
            ring.append(after)
        middle = len(vertices) + len(extra)
        extra.append(vertices[ring].mean(axis=0))
        more += [[a, b, middle] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)]
    if not more:
        return vertices, faces
    return np.concatenate([vertices, extra]), np.concatenate([faces, more])
