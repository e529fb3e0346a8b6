"""A pinhole camera in OpenGL's terms and back: what three.js, Blender's viewport and game engines take.

OpenGL's camera looks along −z with y up and shows what the projection matrix brings into [−1, 1]; its window's y counts
from the bottom, a picture's from the top. `docs/conventions.md` has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.geometry.pinhole import PinholeCamera

FLIP = np.diag([1.0, -1.0, -1.0])
NEAR, FAR = 0.01, 100.0
"""Metres."""


@dataclass(frozen=True)
class OpenGLCamera:
    """projection: [4, 4], camera space to clip space.  view: [4, 4], head space to camera space (x right, y up, z
    towards the viewer), metres.  size: (height, width) of the picture, pixels.

    Both matrices are for column vectors, row by row; OpenGL and three.js's `fromArray` want them column by column.
    """

    projection: np.ndarray
    view: np.ndarray
    size: tuple[int, int]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head space [N, 3], metres, to picture pixels [N, 2] (x right, y down, pixel centres at +0.5), as a window
        shows them."""
        ones = np.ones((len(points), 1))
        clip = np.hstack([np.asarray(points, np.float64), ones]) @ (self.projection @ self.view).T
        ndc = clip[:, :2] / clip[:, 3:]
        height, width = self.size
        return np.stack([(ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2], axis=1)


def to_opengl(camera: PinholeCamera, size: tuple[int, int], near: float = NEAR, far: float = FAR) -> OpenGLCamera:
    """Args: size: (height, width), pixels.  near, far: metres, what lies outside is not drawn."""
    (height, width), k = size, camera.K
    projection = np.zeros((4, 4))
    projection[0, :3] = 2 * k[0, 0] / width, -2 * k[0, 1] / width, 1 - 2 * k[0, 2] / width
    projection[1, 1:3] = 2 * k[1, 1] / height, 2 * k[1, 2] / height - 1
    projection[2, 2:] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = FLIP @ camera.R, FLIP @ camera.t
    return OpenGLCamera(projection, view, size)


def from_opengl(camera: OpenGLCamera) -> PinholeCamera:
    """The pinhole camera of the same picture.

    Raises:
        ValueError: an orthographic projection, which no pinhole is.
    """
    p, (height, width) = camera.projection, camera.size
    if not np.allclose(p[3], [0, 0, -1, 0]):
        raise ValueError(f"a perspective projection has [0, 0, -1, 0] as its last row, got {p[3].tolist()}")
    k = np.eye(3)
    k[0] = p[0, 0] * width / 2, -p[0, 1] * width / 2, (1 - p[0, 2]) * width / 2
    k[1, 1:] = p[1, 1] * height / 2, (1 + p[1, 2]) * height / 2
    return PinholeCamera(k, FLIP @ camera.view[:3, :3], FLIP @ camera.view[:3, 3])
