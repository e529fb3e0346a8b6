"""Scan-to-mesh distance: crop, face regions, landmark alignment, rigid ICP, point-to-surface distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokenface.evaluation.icp import Surface, refine, spatial_order
from tokenface.geometry.similarity import Similarity, procrustes

REGIONS: tuple[str, ...] = ("nose", "mouth", "eyes", "cheeks", "forehead", "chin")


def face_regions(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The region of every point: that of the nearest anchor, seen from the front.

    Anchors are placed from the landmarks: eyes and mouth at their corners and middles, the nose along its ridge, the
    rest at shares of the outer eye distance.

    Args:
        points: [P, 3].  landmarks: [7, 3], NoW's seven.
    Returns:
        [P] int, index into REGIONS.
    """
    seen, marks = _from_the_front(points, landmarks)
    anchors, regions = _anchors(marks)
    distances = ((seen[:, None] - anchors) ** 2).sum(-1)
    return regions[distances.argmin(1)]


def _from_the_front(points: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right (the subject's left) and up, in units of the outer eye distance, from the middle of the eyes."""
    right = landmarks[3] - landmarks[0]
    size = float(np.linalg.norm(right))
    right = right / size
    middle = (landmarks[0] + landmarks[3]) / 2
    up = middle - (landmarks[5] + landmarks[6]) / 2
    up = up - (up @ right) * right
    axes = np.stack([right, up / np.linalg.norm(up)], axis=1)
    return (points - middle) @ axes / size, (landmarks - middle) @ axes / size


def _anchors(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right_outer, right_inner, left_inner, left_outer, bottom, right_corner, left_corner = marks
    bridge, mouth = (right_inner + left_inner) / 2, (right_corner + left_corner) / 2
    drop = mouth - bottom  # from the nose to the mouth
    side, down = np.array([1.0, 0.0]), np.array([0.0, -1.0])
    places = {
        "nose": [bridge + share * (bottom - bridge) for share in (0.4, 0.7, 0.95)],
        "mouth": [right_corner, mouth, left_corner, (right_corner + mouth) / 2, (left_corner + mouth) / 2],
        "eyes": [right_outer, right_inner, left_inner, left_outer, (right_outer + right_inner) / 2,
                 (left_outer + left_inner) / 2],
        "cheeks": [bottom + sign * side * across + 0.1 * down * height for sign in (-1, 1) for across, height in
                   ((0.42, -1.0), (0.6, -1.0), (0.55, 1.5), (0.7, 1.5), (0.5, 3.5))],
        "forehead": [bridge + across * side - 0.45 * down for across in (-0.6, -0.3, 0.0, 0.3, 0.6)],
        "chin": [mouth + 1.3 * drop + across * side for across in (-0.25, 0.0, 0.25)],
    }  # fmt: skip
    anchors = np.concatenate([np.stack(places[name]) for name in REGIONS])
    labels = np.repeat(np.arange(len(REGIONS)), [len(places[name]) for name in REGIONS])
    return anchors, labels


Unit = Literal["mm", "cm", "m"]
MILLIMETRES: dict[str, float] = {"mm": 1.0, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True)
class Protocol:
    """Measurement protocol.

    radius: of the crop, in units of the mean of outer eye distance and nose length.
    refined: whether the alignment by landmarks is refined on the surfaces.
    metrical: the prediction is metric, its scale is kept.
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
