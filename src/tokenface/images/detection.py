"""Detection: one face found in a photo."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tokenface.geometry.crop import LANDMARK_BOX_SCALE, TEST_SCALE, Crop, crop_from_box, crop_from_landmarks, roll_of
from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68
from tokenface.images.facemesh import MeshResult

MESH_BOX_SCALE = LANDMARK_BOX_SCALE / 0.95
"""The mesh's 68 points span 5 % less than annotators' points do (900 photos); this makes the crops equal."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A detected face. Photo pixels, centres at +0.5; the box may reach beyond the photo.

    box: [4] x0, y0, x1, y1, brows to chin.  score: the detector's, in [0, 1]; 1 for boxes and landmarks given by
    the caller.  keypoints: [6, 2] or None, order `blazeface.KEYPOINTS`.  landmarks468: [468, 3] face-mesh points or
    None (masked, full profile, mesh not wanted).  landmarks68: [68, 2] iBUG points or None.  presence: the mesh's
    score, 0 without one.  roll: radians, anticlockwise on the photo positive.
    """

    box: np.ndarray
    score: float
    keypoints: np.ndarray | None = None
    landmarks468: np.ndarray | None = None
    landmarks68: np.ndarray | None = None
    presence: float = 0.0
    roll: float = 0.0

    @property
    def size(self) -> float:
        """Mean side of the box, photo pixels."""
        return float(self.box[2] - self.box[0] + self.box[3] - self.box[1]) / 2

    @staticmethod
    def from_landmarks(landmarks: np.ndarray) -> Detection:
        """A face whose 68 iBUG points [68, 2 or 3] are known, in photo pixels."""
        points = np.asarray(landmarks, dtype=np.float64)
        if points.ndim != 2 or points.shape[0] != 68 or points.shape[1] < 2 or not np.isfinite(points).all():
            raise ValueError(f"landmarks must be finite [68, 2] photo pixels, got {points.shape}")
        points = points[:, :2]
        eyes = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
        roll = roll_of(eyes, points[27] - points[8])
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        return Detection(box=box, score=1.0, landmarks68=points, roll=roll)

    def with_mesh(self, mesh: MeshResult) -> Detection:
        """The same face with the mesh's points and roll."""
        return replace(
            self,
            landmarks468=mesh.points,
            landmarks68=mesh.points[list(MEDIAPIPE_TO_IBUG68), :2],
            presence=mesh.presence,
            roll=mesh.roll,
        )

    def crop(self, scale: float = TEST_SCALE, upright: bool = True) -> Crop:
        """The crop for the network: from the landmarks where there are any, else from the box.

        Args:
            scale: 1.25 as the published test crop; 1.6 for NoW.
            upright: turn the crop with the face's roll.
        """
        angle = self.roll if upright else 0.0
        if self.landmarks68 is not None:
            box_scale = LANDMARK_BOX_SCALE if self.landmarks468 is None else MESH_BOX_SCALE
            return crop_from_landmarks(self.landmarks68, scale, angle, box_scale)
        return crop_from_box(self.box, scale, angle)
