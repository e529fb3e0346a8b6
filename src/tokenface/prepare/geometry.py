"""Geometry of a data set as vertices of the head model to be trained."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tokenface.data.readers.dataset import FlameParameters, ScanMesh
from tokenface.data.record import Geometry, Unknown
from tokenface.errors import DataError, HeadModelError
from tokenface.head.model import HeadModel
from tokenface.head.registry import list_heads, load_head

if TYPE_CHECKING:
    from tokenface.prepare.registration import ScanRegistration

FLAME_VERTICES = 5023
REMEMBERED = 32
"""Geometries kept: the pictures of a person follow each other and share one scan."""


class GeometryFitter:
    """FLAME parameters and scans to one head model's vertices.

    Args:
        head: the head model of the shards.
        flame: name or path of the FLAME that parameters belong to; None: the head itself, or the installed one, that
            is of the parameters' release (`FlameParameters.release`).
    """

    def __init__(self, head: HeadModel, flame: str | None = None):
        self.head, self._flame_name = head, flame
        self.hash = head.data.geometry_hash()
        self._flame: HeadModel | None = None
        self._registration: ScanRegistration | None = None
        self._done: OrderedDict[tuple[Path, bool], Geometry] = OrderedDict()

    def fit(self, found: FlameParameters | ScanMesh, path: Path | None = None) -> Geometry:
        """Vertices in the head's topology.

        Args:
            path: file that the geometry came from; the same file is not fitted twice in a row.
        Raises:
            DataError: wrong sizes, a scan that no head fits.  HeadModelError: FLAME is needed and not installed.
        """
        key = None if path is None else (path, found.neutral)
        if key is not None and key in self._done:
            self._done.move_to_end(key)
            return self._done[key]
        vertices, unknown = self._from_flame(found) if isinstance(found, FlameParameters) else self._registered(found)
        geometry = Geometry(vertices, found.neutral, self.hash, unknown)
        if key is not None:
            self._done[key] = geometry
            while len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
        return geometry

    def _from_flame(self, found: FlameParameters) -> tuple[np.ndarray, Unknown]:
        flame = self._find_flame(found.release)
        sizes = flame.sizes
        if len(found.shape) > sizes.shape or len(found.expression) > sizes.expression:
            raise DataError(
                f"{len(found.shape)} shape and {len(found.expression)} expression numbers for '{flame.name}', "
                f"which has {sizes.shape} and {sizes.expression}"
            )
        expression = torch.zeros(1, sizes.expression)
        expression[0, : len(found.expression)] = torch.from_numpy(np.array(found.expression, np.float32))
        shape, jaw = (torch.from_numpy(np.array(v, np.float32))[None] for v in (found.shape, found.jaw))
        with torch.no_grad():
            # a neutral face is explained by the shape alone (Sec. 3.2.1)
            mesh = flame(shape) if found.neutral else flame(shape, expression, jaw)
            points = flame.landmarks68(mesh.vertices)[0].numpy()
        vertices = mesh.vertices[0].numpy()
        if flame.data.geometry_hash() == self.hash:
            return vertices, "nothing"
        scan = ScanMesh(vertices, flame.data.faces, points, np.arange(68), 1.0, found.neutral)
        return self._registered(scan)

    def _registered(self, scan: ScanMesh) -> tuple[np.ndarray, Unknown]:
        from tokenface.prepare.registration import ScanRegistration

        if self._registration is None:
            self._registration = ScanRegistration(self.head)
        return self._registration.register(scan).vertices, "size" if scan.metres is None else "place"

    def _find_flame(self, release: str) -> HeadModel:
        if self._flame is None:
            if self._flame_name is None and self.head.name == release:
                self._flame = self.head
            else:
                self._flame = load_head(self._flame_name or flame_of(release))
            if self._flame.vertex_count != FLAME_VERTICES:
                raise HeadModelError(f"'{self._flame.name}' has {self._flame.vertex_count} vertices and is no FLAME")
        return self._flame


def flame_of(release: str) -> Path:
    """The installed FLAME of a release: the betas of one are other faces on another.

    Raises:
        HeadModelError: it is not installed.
    """
    flames = [entry for entry in list_heads() if entry.vertices == FLAME_VERTICES]
    for entry in flames:
        if entry.name == release:
            return entry.path
    others = ", ".join(f"'{entry.name}'" for entry in flames)
    if others:
        raise HeadModelError(
            f"the data set's parameters are of FLAME '{release}', installed: {others}; add it with 'tokenface head add "
            f"flame PATH --name {release}', or, if they were fitted with another one, say so with --flame NAME"
        )
    raise HeadModelError(
        f"this data set gives parameters of FLAME '{release}', and no FLAME model is installed: download it, then "
        "'tokenface head add flame PATH'"
    )
