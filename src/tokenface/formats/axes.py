"""Units and up axis of mesh files that do not state them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tokenface.errors import ConfigError
from tokenface.formats.mesh import TexturedMesh

Unit = Literal["m", "cm", "mm"]
Up = Literal["y", "z"]
PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
_TURN = {"y": np.eye(3), "z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])}
"""Head space to the file's axes; with z up the face looks along −y, as in Blender and on a printer's bed."""


@dataclass(frozen=True)
class Axes:
    """unit: of the numbers in the file.  up: the axis that points from chin to crown."""

    unit: Unit = "m"
    up: Up = "y"

    def points(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] metres in head space → the file's numbers, float32."""
        return (np.asarray(points, np.float64) @ _TURN[self.up].T * PER_METRE[self.unit]).astype(np.float32)

    def mesh(self, mesh: TexturedMesh) -> TexturedMesh:
        """The mesh with the file's numbers; itself where nothing changes."""
        if self == HEAD_SPACE:
            return mesh
        normals = (mesh.normals.astype(np.float64) @ _TURN[self.up].T).astype(np.float32)
        return replace(mesh, vertices=self.points(mesh.vertices), normals=normals)

    def __str__(self) -> str:
        unit = {"m": "metres", "cm": "centimetres", "mm": "millimetres"}[self.unit]
        out = {"y": "+y up, +z out of the face", "z": "+z up, -y out of the face"}[self.up]
        return f"{unit}; +x subject's left, {out}"


HEAD_SPACE = Axes()
"""As the head is everywhere in this package."""


def chosen_axes(unit: str, up: str) -> Axes:
    """Axes from two words.

    Raises:
        ConfigError: another unit or axis.
    """
    if unit not in PER_METRE or up not in _TURN:
        raise ConfigError(f"--units is m, cm or mm, and --up is y or z; got '{unit}' and '{up}'")
    return Axes(unit, up)  # type: ignore[arg-type]
