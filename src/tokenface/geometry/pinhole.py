"""Crop camera seen from the whole photo: exact affine projection; pinhole forms in OpenCV's and OpenGL's terms.

The network's camera is scaled-orthographic (Sec. 3.1): it knows directions and the scale on the picture, not the
distance. `FaceCamera.orthographic` is exact. `FaceCamera.pinhole` is the perspective camera of an assumed focal length
that shows the face at the same place, size and angle. A refinement that knows the focal length solves the distance:
then the camera has a lens of its own, which is exact, and the orthographic one is its best approximation.

OpenGL's camera looks along −z with y up and shows what the projection matrix brings into [−1, 1]; its window's y counts
from the bottom, a picture's from the top. `docs/conventions.md` has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tokenface.geometry.axis_angle import head_angles, rotation_matrix
from tokenface.geometry.crop import Crop

FOCAL_PER_LONGER_SIDE = 1.2
"""Assumed focal length over the photo's longer side: a 45° view, between a phone and a portrait lens."""
NEAREST = 1.0
"""Metres: a face is not taken to be nearer to the camera than this, however large it is on the photo."""


@dataclass(frozen=True)
class PinholeCamera:
    """OpenCV's camera, no distortion: x_photo ~ K (R X + t). x right, y down, z forward; X metres in head space.

    K: [3, 3], pixels, pixel centres at +0.5 (subtract 0.5 from both principal-point entries for tools that put
    them at whole numbers).  R: [3, 3].  t: [3], metres.
    """

    K: np.ndarray
    R: np.ndarray
    t: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head space [N, 3], metres, to photo pixels [N, 2]."""
        image = (np.asarray(points, np.float64) @ self.R.T + self.t) @ self.K.T
        return image[:, :2] / image[:, 2:]


@dataclass(frozen=True)
class FaceCamera:
    """One face's camera in its photo.

    vector: [7] float64, `[s, r_x, r_y, r_z, t_x, t_y, t_z]` of `tokenface.geometry.camera`, in NDC of the crop.
    crop: where the crop stands on the photo.  photo_size: (height, width), pixels.
    lens: the perspective camera where a refinement has solved one (`docs/refinement.md`); it projects then.
    """

    vector: np.ndarray
    crop: Crop
    photo_size: tuple[int, int]
    lens: PinholeCamera | None = None

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3], head space to the photo's axes (x right, y up, z towards the viewer); the crop's roll included."""
        cos, sin = math.cos(self.crop.angle), math.sin(self.crop.angle)
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ self._in_crop

    @property
    def pixels_per_metre(self) -> float:
        """Photo pixels per metre at the face."""
        return float(self.vector[0] * self.crop.size / 2)

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch, roll in radians on the photo, as `Camera.angles`; turning the crop back adds to the roll."""
        yaw, pitch, roll = self._angles_in_crop
        return yaw, pitch, math.remainder(roll + self.crop.angle, math.tau)

    def orthographic(self) -> np.ndarray:
        """[3, 4] float64 matrix P: `P @ (X, Y, Z, 1)` is (x, y, 1) in photo pixels, exactly as the network means it;
        with a lens, the nearest to it over the landmarks."""
        flip = np.array([[1.0, 0, 0], [0, -1, 0]])
        rows = self.crop.matrix()[:, :2] @ (self.vector[0] * flip @ self._in_crop)
        offset = self.crop.to_photo(np.array([[self.vector[4], -self.vector[5]]]))[0]
        return np.vstack([np.column_stack([rows, offset]), [0, 0, 0, 1]])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head space [N, 3], metres, to photo pixels [N, 2] (pixel centres at +0.5)."""
        if self.lens is not None:
            return self.lens.project(points)
        matrix = self.orthographic()[:2]
        return np.asarray(points, np.float64) @ matrix[:, :3].T + matrix[:, 3]

    def depth(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] → [N], metres away from the viewer relative to the head's origin."""
        if self.lens is not None:
            return np.asarray(points, np.float64) @ self.lens.R[2]
        return -np.asarray(points, np.float64) @ self.rotation[2]

    def pinhole(self, focal: float | None = None, centre: np.ndarray | None = None) -> PinholeCamera:
        """The perspective camera that sees the face as the orthographic one does.

        The head is turned towards the viewing ray, so that a face at the photo's edge keeps its appearance; place and
        size are exact at `centre`, other points move by perspective (a few percent at arm's length).

        Args:
            focal: pixels. None: the solved lens as it is; without one 1.2 × the longer side, more where the face would
                be nearer than a metre.
            centre: [3] head-space point, metres; None: the origin. Take the middle of the face.
        """
        if focal is None and self.lens is not None:
            return self.lens
        height, width = self.photo_size
        if focal is None:
            focal = max(FOCAL_PER_LONGER_SIDE * max(height, width), NEAREST * self.pixels_per_metre)
        point = np.zeros(3) if centre is None else np.asarray(centre, np.float64)
        intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        ray = np.linalg.solve(intrinsics, np.append(self.project(point[None])[0], 1))
        cosine = 1 / float(np.linalg.norm(ray))
        ray = ray * cosine
        # Off the axis a pinhole magnifies by 1/cos across and 1/cos² along the radius (at one depth): take the mean.
        distance = focal / (self.pixels_per_metre * cosine**1.5)
        to_opencv = np.diag([1.0, -1.0, -1.0])
        rotation = turn_axis_to(ray) @ to_opencv @ self.rotation
        return PinholeCamera(intrinsics, rotation, distance * ray - rotation @ point)

    def resized(self, factor: float) -> FaceCamera:
        """The camera that sees a head grown by `factor` (about head space's origin) as this one sees the head."""
        vector = self.vector.copy()
        vector[0] /= factor
        lens = None if self.lens is None else replace(self.lens, t=self.lens.t * factor)
        return replace(self, vector=vector, lens=lens)

    @cached_property
    def _in_crop(self) -> np.ndarray:
        """[3, 3], head space to the crop's axes."""
        return rotation_matrix(self.vector[1:4])

    @cached_property
    def _angles_in_crop(self) -> tuple[float, float, float]:
        return head_angles(self._in_crop)


def turn_axis_to(direction: np.ndarray) -> np.ndarray:
    """[3, 3]: the smallest rotation that takes +z to the unit vector `direction` (z > 0)."""
    x, y, z = direction
    cross = np.array([[0, 0, x], [0, 0, y], [-x, -y, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)


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
