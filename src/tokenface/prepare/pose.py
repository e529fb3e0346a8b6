"""Head angles from 68 points, and which of the points a head with these angles hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tokenface.camera import Camera
from tokenface.data.visibility import visible_points
from tokenface.evaluation.best_camera import fit_camera
from tokenface.head.model import HeadModel
from tokenface.render.rasterizer import rasterize

DEPTH_SIZE = 96
DEPTH_SLACK = 0.010
"""Metres that a point may lie behind the mean head's surface and still be seen, as for rendered faces."""
FIXED = slice(17, 68)
"""The jaw line slides with the view on annotations, so brows, nose, eyes and mouth give the pose."""


@dataclass(frozen=True)
class Pose:
    """angles: [3] yaw, pitch, roll, radians.  visible: [68] bool.  misfit: root mean square distance of the mean
    head's points to the landmarks, in sides of the landmark box."""

    angles: np.ndarray
    visible: np.ndarray
    misfit: float


class PoseEstimator:
    """Fits the paper's camera to the mean head."""

    def __init__(self, head: HeadModel):
        self.template = head.template[None]
        self.faces = head.faces
        self.points = head.landmarks68(self.template)

    @torch.no_grad()
    def __call__(self, landmarks: np.ndarray) -> Pose:
        """[68, 2] picture pixels → Pose."""
        points = np.asarray(landmarks, np.float64)
        low, high = points.min(0), points.max(0)
        side = max(float((high - low).mean()), 1e-6)
        ndc = (points - (low + high) / 2) / side  # the box spans ± 0.5
        vector = fit_camera(self.points[0, FIXED].double().numpy(), ndc[FIXED])
        camera = Camera.from_vector(torch.from_numpy(vector).float()[None])
        seen = camera.project(self.points)
        misfit = float(np.sqrt(((seen[0, FIXED, :2].numpy() - ndc[FIXED]) ** 2).sum(1).mean()))
        return Pose(camera.angles()[0].numpy().astype(np.float32), self._visible(camera, seen), misfit)

    def _visible(self, camera: Camera, seen: torch.Tensor) -> np.ndarray:
        fragments = rasterize(camera.project(self.template), self.faces, DEPTH_SIZE, DEPTH_SIZE)
        depth = torch.where(fragments.mask, fragments.depth, torch.inf)
        nothing = torch.zeros_like(depth)
        return visible_points(seen, depth, nothing, nothing, DEPTH_SLACK * camera.scale)[0].numpy()
