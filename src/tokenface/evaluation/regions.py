"""Regions of a face that follow from seven landmarks alone, so that scans of any topology have them."""

from __future__ import annotations

import numpy as np

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
