"""Camera of a refinement: perspective of any strength around a pivot, and its conversion from and to photo cameras.

A pinhole camera of focal length f that sees the pivot at distance Z projects `q = R (X − pivot)` (x right, y up, z
towards the viewer) to `c + (s q_xy + u − c) / (1 − k q_z)` with `s = f / Z` and `k = 1 / Z`: c is the principal point
and u where the pivot appears. k = 0 is the paper's scaled-orthographic camera, without a case of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.geometry import rotations
from tokenface.geometry.pinhole import FaceCamera, PinholeCamera, turn_axis_to

LIMIT = 0.05
"""Least `1 − k q_z`: a point is not taken to be nearer to the lens than a twentieth of the face's distance."""
UNKNOWNS = 6
"""Turn (3, radians, about the camera's axes), log scale, place of the pivot (2)."""


@dataclass(frozen=True)
class View:
    """One view of a face; lengths on the picture in crop NDC with y up.

    rotation: [3, 3] head space to camera space.  scale: s, half-widths per metre at the pivot.  place: u [2].
    pivot: [3] metres, head space.  focal: f, half-widths; None: orthographic.  principal: c [2].
    """

    rotation: np.ndarray
    scale: float
    place: np.ndarray
    pivot: np.ndarray
    focal: float | None = None
    principal: np.ndarray | None = None

    @property
    def nearness(self) -> float:
        """k, one over the distance of the pivot from the lens along the axis, 1/metres."""
        return 0.0 if self.focal is None else self.scale / self.focal

    @property
    def distance(self) -> float:
        """Metres along the optical axis from the lens to the pivot; infinite for an orthographic view."""
        return np.inf if self.focal is None else self.focal / self.scale

    def project(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] metres, head space → [N, 2] crop NDC, y up."""
        _, across, shrink = self._seen(points)
        return self._centre + across / shrink[:, None]

    def derivatives(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the projected points: by their head-space place [N, 2, 3] and by the view's own unknowns [N, 2, 6]."""
        q, across, shrink = self._seen(points)
        k, d = self.nearness, shrink[:, None]
        by_q = np.zeros((len(q), 2, 3))
        by_q[:, 0, 0] = by_q[:, 1, 1] = self.scale / shrink
        by_q[:, :, 2] = k * across / d**2
        own = np.zeros((len(q), 2, UNKNOWNS))
        for axis, turned in enumerate(np.eye(3)):
            own[:, :, axis] = np.einsum("nij,nj->ni", by_q, np.cross(turned, q))
        own[:, :, 3] = self.scale * q[:, :2] / d + k * q[:, 2:] * across / d**2
        own[:, 0, 4] = own[:, 1, 5] = 1 / shrink
        return by_q @ self.rotation, own

    def moved(self, step: np.ndarray) -> View:
        """By a step of the six unknowns; large turns and scalings are cut."""
        turn = Rotation.from_rotvec(np.clip(step[:3], -0.5, 0.5)).as_matrix()
        scale = self.scale * float(np.exp(np.clip(step[3], -0.5, 0.5)))
        return replace(self, rotation=turn @ self.rotation, scale=scale, place=self.place + step[4:6])

    def difference(self, other: View) -> np.ndarray:
        """[6]: the step that leads from `other` to this view (both around the same pivot)."""
        turn = Rotation.from_matrix(self.rotation @ other.rotation.T).as_rotvec()
        return np.concatenate([turn, [np.log(self.scale / other.scale)], self.place - other.place])

    @property
    def _centre(self) -> np.ndarray:
        return np.zeros(2) if self.principal is None else self.principal

    def _seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = (points - self.pivot) @ self.rotation.T
        return q, self.scale * q[:, :2] + self.place - self._centre, np.maximum(1 - self.nearness * q[:, 2], LIMIT)


Y_UP = np.array([1.0, -1.0])
TO_OPENCV = np.diag([1.0, -1.0, -1.0])


def view_of(camera: FaceCamera, pivot: np.ndarray, focal: float | None = None) -> View:
    """The view that shows the pivot where the face's orthographic camera does, as large and from the same side.

    Args:
        pivot: [3] metres, head space: the middle of the face.
        focal: photo pixels; None: orthographic.
    """
    scale = float(camera.vector[0])
    rotation = _matrix(camera.vector[1:4])
    place = camera.vector[4:6] + scale * (rotation @ pivot)[:2]
    if focal is None:
        return View(rotation, scale, place, pivot)
    focal_ndc = focal * 2 / camera.crop.size
    height, width = camera.photo_size
    principal = camera.crop.to_ndc(np.array([[width / 2, height / 2]]))[0] * Y_UP
    turn, cosine = _towards(place - principal, focal_ndc)
    # off the axis a pinhole magnifies by 1/cos across and 1/cos² along the radius: the mean of both is the scale seen
    return View(turn @ rotation, scale * math.sqrt(cosine), place, pivot, focal_ndc, principal)


def camera_of(view: View, before: FaceCamera, points: np.ndarray) -> FaceCamera:
    """The face's camera after a refinement, in the same crop of the same photo.

    Args:
        points: [N, 3] metres, head space; the orthographic camera of a perspective view is the one that agrees with it
            best over these.
    """
    rotation, scale, place = view.rotation, view.scale, view.place
    lens = None
    if view.focal is not None and view.principal is not None:
        turn, _ = _towards(place - view.principal, view.focal)
        rotation = turn.T @ rotation
        flat, seen = points @ rotation[:2].T, view.project(points)
        flat_middle, middle = flat.mean(0), seen.mean(0)
        scale = float(((flat - flat_middle) * (seen - middle)).sum() / np.square(flat - flat_middle).sum())
        shift = middle - scale * flat_middle
        lens = _pinhole(view, before)
    else:
        shift = place - scale * (rotation @ view.pivot)[:2]
    turned = rotations.rotmat_to_rotvec(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()
    vector = np.array([scale, *turned, *shift, 0.0])
    return FaceCamera(vector, before.crop, before.photo_size, lens)


def _pinhole(view: View, before: FaceCamera) -> PinholeCamera:
    assert view.focal is not None
    assert view.principal is not None
    crop = before.crop
    height, width = before.photo_size
    focal = view.focal * crop.size / 2
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    upright = np.eye(3)  # crop axes to photo axes, both y up
    cos, sin = math.cos(crop.angle), math.sin(crop.angle)
    upright[:2, :2] = [[cos, -sin], [sin, cos]]
    to_lens = TO_OPENCV @ upright
    middle = np.array([*(view.place - view.principal), -view.focal]) * (view.distance / view.focal)
    rotation = to_lens @ view.rotation
    return PinholeCamera(intrinsics, rotation, to_lens @ middle - rotation @ view.pivot)


def _towards(offset: np.ndarray, focal: float) -> tuple[np.ndarray, float]:
    """The turn that takes the optical axis to the ray of a point `offset` [2] from the principal point (x right, y up,
    z towards the viewer), and the cosine of its angle."""
    ray = np.array([*offset, -focal]) / math.sqrt(float(offset @ offset) + focal**2)
    flip = TO_OPENCV  # the axis is −z here and +z there; turning about x by half a turn maps one to the other
    return flip @ turn_axis_to(flip @ ray) @ flip, -float(ray[2])


def _matrix(rotvec: np.ndarray) -> np.ndarray:
    return rotations.rotvec_to_rotmat(torch.as_tensor(np.asarray(rotvec, np.float64))).numpy()
