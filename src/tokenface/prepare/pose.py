"""Head angles from the points of a face, and which of the 68 points a head with these angles hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tokenface.data.visibility import visible_points
from tokenface.geometry.camera import Camera
from tokenface.geometry.first_camera import fit_camera
from tokenface.head.model import HeadModel
from tokenface.render.rasterizer import rasterize

DEPTH_SIZE = 96
DEPTH_SLACK = 0.010
"""Metres that a point may lie behind the mean head's surface and still be seen, as for rendered faces."""
FIXED = slice(17, 68)
"""The jaw line slides with the view on annotations, so brows, nose, eyes and mouth give the pose."""
MESH_STEP = 3
"""Every third point of the face mesh. On 32 frontal photos its pitch is −1.5° ± 4.4°, that of the 68 points taken from
the mesh −10° ± 13°: few points, most of them on lips and brows, mistake expressions for a nod."""


@dataclass(frozen=True)
class Pose:
    """angles: [3] yaw, pitch, roll, radians.  visible: [68] bool.  misfit: root mean square distance of the mean
    head's points to those of the face, in sides of the landmark box."""

    angles: np.ndarray
    visible: np.ndarray
    misfit: float


class PoseEstimator:
    """Fits the paper's camera to the mean head."""

    def __init__(self, head: HeadModel):
        self.template = head.template[None]
        self.faces = head.faces
        self.points = head.landmarks68(self.template)
        self.mesh_numbers = np.empty(0, np.int64)
        if head.mesh468_faces is not None:
            self.mesh_numbers = np.flatnonzero(head.mesh468_valid.numpy())[::MESH_STEP]
            self.mesh_points = head.landmarks468(self.template)[0].double().numpy()[self.mesh_numbers]

    @torch.no_grad()
    def __call__(self, landmarks: np.ndarray, landmarks468: np.ndarray | None = None) -> Pose:
        """Pose from [68, 2] picture pixels, better from the face mesh [468, ≥2] where there is one."""
        points = np.asarray(landmarks, np.float64)
        low, high = points.min(0), points.max(0)
        side = max(float((high - low).mean()), 1e-6)
        if landmarks468 is not None and len(self.mesh_numbers):
            known, seen = self.mesh_points, np.asarray(landmarks468, np.float64)[self.mesh_numbers, :2]
        else:
            known, seen = self.points[0, FIXED].double().numpy(), points[FIXED]
        ndc = (seen - (low + high) / 2) / side  # the box spans ± 0.5
        camera = Camera.from_vector(torch.from_numpy(fit_camera(known, ndc)).float()[None])
        fitted = camera.project(torch.from_numpy(known).float()[None])[0, :, :2].numpy()
        misfit = float(np.sqrt(((fitted - ndc) ** 2).sum(1).mean()))
        visible = self._visible(camera, camera.project(self.points))
        return Pose(camera.angles()[0].numpy().astype(np.float32), visible, misfit)

    def _visible(self, camera: Camera, seen: torch.Tensor) -> np.ndarray:
        fragments = rasterize(camera.project(self.template), self.faces, DEPTH_SIZE, DEPTH_SIZE)
        depth = torch.where(fragments.mask, fragments.depth, torch.inf)
        nothing = torch.zeros_like(depth)
        return visible_points(seen, depth, nothing, nothing, DEPTH_SLACK * camera.scale)[0].numpy()
