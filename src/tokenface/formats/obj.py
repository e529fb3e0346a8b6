"""Wavefront OBJ with MTL and PNG, in the head model's vertex order; seams are in `vt`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tokenface.core.files import write_atomically
from tokenface.formats.axes import HEAD_SPACE, Axes
from tokenface.formats.mesh import TexturedMesh, fact_lines, png_bytes


def write_obj(path: str | Path, mesh: TexturedMesh, axes: Axes = HEAD_SPACE) -> list[Path]:
    """Write `<stem>.obj`, `<stem>.mtl` and `<stem>.png`; returns the three paths.

    Raises:
        OutputError: a file cannot be written.
    """
    path = Path(path)
    data, material, texture = obj_files(path.stem, mesh, axes).items()
    # The OBJ comes last: whoever sees it finds the files that it names.
    write_atomically(path.with_name(texture[0]), texture[1])
    write_atomically(path.with_name(material[0]), material[1])
    write_atomically(path, data[1])
    return [path, path.with_name(material[0]), path.with_name(texture[0])]


def obj_files(stem: str, mesh: TexturedMesh, axes: Axes = HEAD_SPACE) -> dict[str, bytes]:
    """The three files by name: OBJ, MTL, PNG."""
    mesh = axes.mesh(mesh)
    # Readers split the file names in 'mtllib' and 'map_Kd' at blanks, so the companions get a name without any.
    plain = re.sub(r"[^\w.-]+", "_", stem) or "face"
    material, texture = f"{plain}.mtl", f"{plain}.png"
    lines = [f"# {fact}" for fact in fact_lines(mesh.facts)]
    lines += [f"# {axes}", f"mtllib {material}", f"o {mesh.name}"]
    lines += _rows("v", mesh.vertices, "%.7f") + _rows("vt", mesh.uv, "%.6f") + _rows("vn", mesh.normals, "%.5f")
    lines += ["usemtl skin", "s 1"]
    corners = np.stack([mesh.faces, mesh.uv_faces, mesh.faces], axis=-1) + 1
    lines += ["f {}/{}/{} {}/{}/{} {}/{}/{}".format(*row) for row in corners.reshape(-1, 9).tolist()]
    mtl = ["newmtl skin", "Ka 0 0 0", "Kd 1 1 1", "Ks 0.04 0.04 0.04", "Ns 20", "illum 2", f"map_Kd {texture}"]
    return {
        f"{stem}.obj": ("\n".join(lines) + "\n").encode(errors="surrogateescape"),
        material: ("\n".join(mtl) + "\n").encode(),
        texture: png_bytes(mesh.texture),
    }


def _rows(keyword: str, values: np.ndarray, number: str) -> list[str]:
    template = keyword + f" {number}" * values.shape[1]
    return [template % tuple(row) for row in values.tolist()]
