"""Between the camera of a face in its photo and the view that a refinement turns: crop axes, pinhole, units."""

from __future__ import annotations

import math

import numpy as np
import torch

from tokenface.geometry import rotations
from tokenface.geometry.pinhole import FaceCamera, PinholeCamera, turn_axis_to
from tokenface.refinement.view import View

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
