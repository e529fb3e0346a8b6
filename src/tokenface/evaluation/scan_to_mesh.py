"""Distance from a scan to a predicted mesh: crop, alignment by seven points, rigid refinement, point-to-surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokenface.evaluation.icp import refine
from tokenface.evaluation.surface import Surface, spatial_order
from tokenface.geometry.similarity import Similarity, procrustes

Unit = Literal["mm", "cm", "m"]
MILLIMETRES: dict[str, float] = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True)
class Protocol:
    """How a prediction is measured.

    radius: of the crop, in units of the mean of outer eye distance and nose length.
    refined: whether the alignment by landmarks is refined on the surfaces.
    metrical: the prediction's unit is believed and its scale kept.
    quirks: exactly as the official code; else no mirror image is allowed, and a metrical alignment by landmarks keeps
        the true scale from the beginning.
    """

    name: str
    radius: float = 1.4
    refined: bool = True
    metrical: bool = False
    quirks: bool = True

    @property
    def label(self) -> str:
        return self.name if self.quirks else f"{self.name}, corrected"


NOW = Protocol("NoW, non-metrical")
NOW_METRICAL = Protocol("NoW, metrical", metrical=True)
STIRLING = Protocol("FG2018", radius=1.2, refined=False)


@dataclass(frozen=True)
class ScanFace:
    """The part of a scan that is measured, prepared once for many predictions.

    points: [P, 3] in `spatial_order`.  kept: [P] their numbers among the scan's vertices.  landmarks: [7, 3].
    All in the scan's unit.
    """

    points: np.ndarray
    kept: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Measurement:
    """distances: [P] unsigned, the scan's unit, in the order of `ScanFace.points`.  pose: prediction to scan.

    restarted: the alignment by landmarks led to a poorer fit than another start, and was left.
    """

    distances: np.ndarray
    pose: Similarity
    rounds: int
    restarted: bool


def face_ball(landmarks: np.ndarray, radius: float = NOW.radius) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of the face region: [7, 3] eye corners right to left, nose bottom, mouth corners."""
    bridge, bottom = (landmarks[1] + landmarks[2]) / 2, landmarks[4]
    size = np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(bridge - bottom)
    return bottom + 0.3 * (bridge - bottom), float(radius * size / 2)


def crop_face(vertices: np.ndarray, landmarks: np.ndarray, radius: float = NOW.radius) -> np.ndarray:
    """Mask [V] of the vertices [V, 3] in the ball of `face_ball`."""
    centre, size = face_ball(landmarks, radius)
    return np.linalg.norm(vertices - centre, axis=1) <= size


def scan_face(vertices: np.ndarray, landmarks: np.ndarray, protocol: Protocol = NOW) -> ScanFace:
    """Crop a scan.

    Args:
        vertices: [V, 3].  landmarks: [7, 3], both in one unit; millimetres if the protocol is metrical.
    Raises:
        ValueError: no vertex lies in the face region.
    """
    kept = np.flatnonzero(crop_face(vertices, landmarks, protocol.radius))
    if not len(kept):
        raise ValueError("no vertex of the scan lies in the face region; scan and landmarks do not belong together")
    kept = kept[spatial_order(vertices[kept])]
    return ScanFace(np.ascontiguousarray(vertices[kept], dtype=np.float64), kept, np.asarray(landmarks, np.float64))


def measure(
    scan: ScanFace,
    prediction: Surface,
    landmarks: np.ndarray,
    protocol: Protocol = NOW,
    unit: Unit = "m",
    start: Similarity | None = None,
) -> Measurement:
    """Align a prediction with a scan and measure.

    Args:
        landmarks: [7, 3] of the prediction.
        unit: of the prediction; matters to metrical protocols alone.
        start: where the refinement begins, in place of the alignment by landmarks.
    """
    pose = landmark_pose(scan.landmarks, landmarks, protocol, unit) if start is None else start
    if protocol.refined:
        found = refine(scan.points, prediction, pose, free_scale=not protocol.metrical)
        return Measurement(found.distances, found.pose, found.rounds, found.restarted)
    distances = prediction.nearest(pose.undo(scan.points)).distances * pose.scale
    return Measurement(distances, pose, 1, False)


def landmark_pose(target: np.ndarray, landmarks: np.ndarray, protocol: Protocol, unit: Unit = "m") -> Similarity:
    """Procrustes as the protocol has it: [7, 3] of the scan, [7, 3] of the prediction."""
    if not protocol.metrical:
        return procrustes(landmarks, target, reflection=protocol.quirks)
    factor = MILLIMETRES[unit]
    if not protocol.quirks:
        return procrustes(landmarks, target, scale=factor)
    # the official code takes rotation and translation of the scaled fit and replaces the scale afterwards
    scaled = procrustes(landmarks, target, reflection=True)
    return Similarity(factor, scaled.rotation, scaled.translation)
