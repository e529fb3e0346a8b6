"""Correspondence of MediaPipe's 468 points on OpenHead, from a small file beside this module.

The file is made by `mesh468_measure`, which shows rendered heads to the face-mesh network; rebuilding OpenHead needs
no detector.
"""

from __future__ import annotations

import json
from importlib import resources

import numpy as np

from tokenface.errors import HeadModelError
from tokenface.tools.openhead.cut import HeadCut

FILE_NAME = "mesh468.json"
POINT_COUNT = 468


def load_mesh468(cut: HeadCut) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [468] int32 of the cut (−1: the point is not on this head) and barycentrics [468, 3] float32.

    Raises:
        HeadModelError: the file names a triangle that the cut does not have.
    """
    stored = json.loads(resources.files(__package__).joinpath(FILE_NAME).read_text())
    corners, weights = np.array(stored["base_vertices"]), np.array(stored["barycentrics"])
    numbers = {tuple(sorted(face)): (k, face) for k, face in enumerate(cut.base_indices[cut.faces].tolist())}
    triangles = np.full(POINT_COUNT, -1, np.int32)
    barycentrics = np.zeros((POINT_COUNT, 3), np.float32)
    for point, (triple, weight) in enumerate(zip(corners.tolist(), weights, strict=True)):
        if triple[0] < 0:
            continue
        found = numbers.get(tuple(sorted(triple)))
        if found is None:
            raise HeadModelError(
                f"'{FILE_NAME}' puts point {point} on base-mesh triangle {triple}, which the head cut lacks; "
                "measure it again with 'python -m tokenface.tools.openhead.mesh468_measure'"
            )
        triangles[point], face = found
        barycentrics[point] = [weight[triple.index(vertex)] for vertex in face]
    barycentrics /= np.maximum(barycentrics.sum(1, keepdims=True), 1e-9)
    return triangles, barycentrics
