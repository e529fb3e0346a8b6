"""Binary PLY with normals and vertex colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokenface.core.files import write_atomically
from tokenface.formats.axes import HEAD_SPACE, Axes
from tokenface.formats.mesh import TexturedMesh, fact_lines, vertex_colours


def write_ply(path: str | Path, mesh: TexturedMesh, axes: Axes = HEAD_SPACE) -> Path:
    """Write a little-endian PLY: x y z nx ny nz (float32), red green blue (uint8), triangles.

    The vertices keep the head model's order and number; the colour is the albedo at the vertex.

    Raises:
        OutputError: the file cannot be written.
    """
    mesh = axes.mesh(mesh)
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {fact}" for fact in fact_lines(mesh.facts)]
    header += [f"comment {axes}", f"element vertex {len(mesh.vertices)}"]
    header += [f"property float {axis}" for axis in ("x", "y", "z", "nx", "ny", "nz")]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header"]

    vertices = np.zeros(len(mesh.vertices), dtype=[("xyz", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3)])
    vertices["xyz"], vertices["normal"], vertices["colour"] = mesh.vertices, mesh.normals, vertex_colours(mesh)
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return write_atomically(path, ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes())
