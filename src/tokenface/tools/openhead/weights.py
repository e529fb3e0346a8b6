"""Smooth weights over the mean head: where the face is, how much a vertex counts, and closed-form alignment."""

from __future__ import annotations

import numpy as np

from tokenface.geometry.normals import vertex_areas
from tokenface.tools.openhead.cut import HeadCut


def face_weight(cut: HeadCut) -> np.ndarray:
    """[V] 1 on the face, falling smoothly to 0 behind the ears' front, below the chin and above the forehead."""
    _, y, z = cut.vertices.T
    eyes = cut.vertices[np.concatenate([cut.part("left_eye"), cut.part("right_eye")])].mean(0)
    front = _rise(z, eyes[2] - 0.058, eyes[2] - 0.028)
    chin = _rise(y, eyes[1] - 0.128, eyes[1] - 0.105)
    forehead = 1 - _rise(y, eyes[1] + 0.050, eyes[1] + 0.085)
    return front * chin * forehead


def alignment_weights(cut: HeadCut) -> np.ndarray:
    """[V] weights that sum to 1 for rigid alignment: skin by area, the face fully, the skull a little, no neck."""
    _, y, z = cut.vertices.T
    skin = np.zeros(cut.vertex_count)
    skin[cut.part("skin")] = 1
    chin = cut.vertices[cut.part("lower_teeth")].min(0)[1] - 0.03
    head = _rise(y - 0.35 * z, chin - 0.01, chin + 0.03)  # the skull's base rises towards the back
    weights = vertex_areas(cut.vertices, cut.faces) * skin * (0.12 * head + face_weight(cut))
    return weights / weights.sum()


def _rise(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at low to 1 at high."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
