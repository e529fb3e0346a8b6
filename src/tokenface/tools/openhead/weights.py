"""Smooth weights over the mean head: where the face is, how much a vertex counts, and closed-form alignment."""

from __future__ import annotations

import numpy as np

from tokenface.tools.openhead.cut import HeadCut


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V] a third of the area of the triangles around each vertex, square metres."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    return np.bincount(faces.ravel(), np.repeat(area / 3, 3), minlength=len(vertices))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] unit normals, outward, area-weighted."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, k], 3), minlength=len(vertices)) for k in range(3)], axis=1
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


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


def align(shapes: np.ndarray, target: np.ndarray, weights: np.ndarray, scale: bool = True) -> np.ndarray:
    """Weighted closed-form similarity (Umeyama 1991) of each shape onto the target.

    Args:
        shapes: [P, V, 3].  target: [V, 3].  weights: [V], sum 1.
    Returns:
        [P, V, 3] aligned shapes.
    """
    w = weights[:, None]
    centre_target = (w * target).sum(0)
    centre = np.einsum("v,pvc->pc", weights, shapes)
    moved, fixed = shapes - centre[:, None], target - centre_target
    covariance = np.einsum("v,vi,pvj->pij", weights, fixed, moved)
    u, s, vt = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    correction = np.ones((len(shapes), 3))
    correction[:, 2] = sign
    rotation = np.einsum("pij,pj,pjk->pik", u, correction, vt)
    factor = np.ones(len(shapes))
    if scale:
        factor = (s * correction).sum(1) / np.einsum("v,pvc,pvc->p", weights, moved, moved)
    return factor[:, None, None] * np.einsum("pij,pvj->pvi", rotation, moved) + centre_target


def _rise(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at low to 1 at high."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
