"""Face search in frames: cheap detection first, the face mesh as confirmation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_box, crop_from_landmarks, extract
from tokenface.images.blazeface import FULL_RANGE, BlazeFace
from tokenface.images.detection import Detection
from tokenface.images.detector import PRESENCE, FaceDetector
from tokenface.images.facemesh import MESH_MARGIN, FaceMesh

QUICK_SCORE = 0.6
"""BlazeFace's score of a whole frame from which the face mesh is asked."""
MESH_BOX = 1.15
"""The 468 points reach up the forehead, the 68 end at the brows."""


NEIGHBOURHOOD = 0.75
"""Margin around a face, in its sizes, in which a detector is asked whether it is still there."""


class FaceFinder:
    """Finds faces that no track holds yet.

    Args:
        detector: the photo detector; its cascade is thorough, and slow where nobody is there.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self._blaze: BlazeFace | None = None
        self._mesh: FaceMesh | None = None
        if isinstance(detector, FaceDetector) and detector.backend == "blazeface":
            self._blaze, self._mesh = BlazeFace(FULL_RANGE), FaceMesh()

    def search(self, image: np.ndarray, thorough: bool) -> list[Detection]:
        """Faces of a frame [H, W, 3], largest first. Quick: upright ones of a twentieth of the frame or more."""
        if thorough or self._blaze is None or self._mesh is None:
            return self.detector.detect(image)
        height, width = image.shape[:2]
        whole = Crop((width / 2, height / 2), max(height, width))
        picture = extract(image, [whole], FULL_RANGE.size, border="grey")[0].permute(1, 2, 0).numpy()
        seen = self._blaze(picture, QUICK_SCORE).mapped(whole.pixel_matrix(1))
        faces = []
        for box, keypoints, score in zip(seen.boxes, seen.keypoints, seen.scores, strict=True):
            mesh = self._mesh(image, crop_from_box(box, scale=1.5, lowering=0.0))
            if mesh.presence >= PRESENCE:
                faces.append(Detection(box=box, score=float(score), keypoints=keypoints).with_mesh(mesh))
        return sorted(faces, key=lambda face: -face.size)

    def detected(self, image: np.ndarray, landmarks68: np.ndarray) -> bool:
        """Whether the detector finds a face where these landmarks are; for detectors without a mesh.

        Args:
            landmarks68: [68, 2] frame pixels.
        """
        low, high = landmarks68.min(axis=0), landmarks68.max(axis=0)
        margin = (high - low).max() * NEIGHBOURHOOD
        edges = np.array([image.shape[1], image.shape[0]])
        x0, y0 = np.clip(np.floor(low - margin), 0, edges).astype(int)
        x1, y1 = np.clip(np.ceil(high + margin), 0, edges).astype(int)
        if x1 - x0 < 8 or y1 - y0 < 8:
            return False
        found = self.detector.detect(np.ascontiguousarray(image[y0:y1, x0:x1]))
        shift = np.array([x0, y0, x0, y0])
        middles = [(face.box + shift).reshape(2, 2).mean(axis=0) for face in found]
        return any(bool((low <= middle).all() and (middle <= high).all()) for middle in middles)

    def check(self, image: np.ndarray, landmarks68: np.ndarray, roll: float) -> Detection | None:
        """A tracked face seen by the face mesh: its presence, and its points if it sees one; None without a mesh.

        Args:
            landmarks68: [68, 2] frame pixels.  roll: radians, of the face in the frame.
        """
        if self._mesh is None:
            return None
        crop = crop_from_landmarks(landmarks68, MESH_MARGIN, roll, MESH_BOX)
        mesh = self._mesh.once(image, crop)
        box = np.concatenate([landmarks68.min(axis=0), landmarks68.max(axis=0)])
        face = Detection(box=box, score=mesh.presence)
        return face.with_mesh(mesh) if mesh.presence >= PRESENCE else face
