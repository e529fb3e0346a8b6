"""iBUG-68 points of OpenHead: picked vertices, and a jaw contour that slides to the visible edge with yaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.geometry.landmarks import MIRROR68
from tokenface.tools.openhead.cut import HeadCut

PICKED = (
    # jaw line, subject's right ear to left ear
    *(5402, 868, 5098, 5242, 895, 893, 3698, 5222, 5296, 11832, 10366, 7595, 7597, 11851, 11713, 7573, 12001),
    # brows
    *(255, 232, 222, 223, 233, 7006, 6997, 6996, 7005, 7024),
    # nose bridge and base
    *(133, 131, 201, 294, 334, 313, 317, 7076, 7096),
    # eyes
    *(4854, 4848, 4865, 72, 47, 41, 6856, 11483, 11466, 11472, 6825, 6831),
    # outer lips, inner lips
    *(3737, 410, 450, 466, 7210, 7170, 10405, 7233, 7245, 496, 490, 478),
    *(3705, 471, 474, 7227, 10373, 7242, 493, 487),
)
"""MakeHuman base-mesh vertices, matched to where annotators place the points on near-frontal photos."""
STEEPEST = 90
"""Degrees of yaw that the contour table reaches on both sides."""
SLIDING = (9, 10, 11, 12, 13, 14, 15, 16)
"""Far-side points when the face turns to the right of the picture."""


@dataclass(frozen=True)
class Landmarks:
    """Triangles [.] int32 and barycentrics [., 3] float32, as `HeadData` wants them."""

    static_faces: np.ndarray
    static_barycentrics: np.ndarray
    contour_faces: np.ndarray
    contour_barycentrics: np.ndarray
    contour_first_yaw: int


def place_landmarks(cut: HeadCut, template: np.ndarray) -> Landmarks:
    """Static points 17–67 on their vertices; contour rows for −90..90 degrees.

    The near side keeps the picked points: annotators see that jaw line. A far-side point slides from its pick
    along a fixed path towards the middle of the face to where the path meets the visible edge, as a yaw-turned
    orthographic camera sees it (x·cos + z·sin greatest).
    """
    vertices = cut.from_base(np.array(PICKED))
    faces, barycentrics = _vertex_as_triangle(cut.faces, vertices)
    paths = {point: _path(cut, template, point, vertices) for point in SLIDING}
    rows = np.arange(-STEEPEST, STEEPEST + 1)
    contour_faces = np.tile(faces[:17], (len(rows), 1))
    contour_barycentrics = np.tile(barycentrics[:17], (len(rows), 1, 1))
    triangle_of = {tuple(sorted(face)): number for number, face in enumerate(cut.faces.tolist())}
    for row in range(STEEPEST + 1, len(rows)):
        angle = np.radians(rows[row])
        for point, (path_faces, path_barycentrics) in paths.items():
            position = np.einsum("kc,kcd->kd", path_barycentrics, template[cut.faces[path_faces]])
            edge = int(np.argmax(position[:, 0] * np.cos(angle) + position[:, 2] * np.sin(angle)))
            contour_faces[row, point] = path_faces[edge]
            contour_barycentrics[row, point] = path_barycentrics[edge]
        # the opposite yaw is the mirror image
        opposite = len(rows) - 1 - row
        for point in SLIDING:
            corners = cut.mirror[cut.faces[contour_faces[row, point]]]
            number = triangle_of[tuple(sorted(corners.tolist()))]
            order = [corners.tolist().index(v) for v in cut.faces[number].tolist()]
            contour_faces[opposite, MIRROR68[point]] = number
            contour_barycentrics[opposite, MIRROR68[point]] = contour_barycentrics[row, point][order]
    return Landmarks(
        static_faces=faces[17:].astype(np.int32),
        static_barycentrics=barycentrics[17:].astype(np.float32),
        contour_faces=contour_faces.astype(np.int32),
        contour_barycentrics=contour_barycentrics.astype(np.float32),
        contour_first_yaw=-STEEPEST,
    )


def _vertex_as_triangle(faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[K] vertices → first triangle that has the vertex, and barycentrics with a single 1."""
    number = np.array([int(np.flatnonzero((faces == v).any(1))[0]) for v in vertices])
    return number, (faces[number] == vertices[:, None]).astype(np.float64)


def _path(cut: HeadCut, template: np.ndarray, point: int, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the skin from a left jaw-line pick towards the midline: triangles [K], barycentrics [K, 3].

    Rays leave a vertical axis inside the head, turning from the pick's azimuth to nearly straight ahead while
    their height blends from the pick's to that of the mouth or cheek in front of it.
    """
    picked = template[vertices]
    start, mouth, chin = picked[point], picked[51], picked[8]
    axis_z = picked[16][2] - 0.012
    share = (start[1] - chin[1]) / (picked[16][1] - chin[1])  # 0 at the chin, 1 beside the eye
    end_height = (1 - share) * (0.75 * chin[1] + 0.25 * mouth[1]) + share * (0.75 * start[1] + 0.25 * mouth[1])
    azimuth = np.arctan2(start[0], start[2] - axis_z)
    steps = np.linspace(0, 1, 90)
    angles = azimuth + (np.radians(14) - azimuth) * steps
    heights = start[1] + (end_height - start[1]) * np.clip(steps * 1.2, 0, 1)
    origins = np.stack([np.zeros_like(steps), heights, np.full_like(steps, axis_z)], axis=1)
    directions = np.stack([np.sin(angles), np.zeros_like(steps), np.cos(angles)], axis=1)
    skin = np.flatnonzero(cut.face_parts == cut.part_names.index("skin"))
    faces, barycentrics = _farthest_hits(origins, directions, template[cut.faces[skin]])
    hit = faces >= 0
    first_face, first_barycentrics = _vertex_as_triangle(cut.faces, vertices[[point]])
    return (
        np.concatenate([first_face, skin[faces[hit]][1:]]),
        np.concatenate([first_barycentrics, barycentrics[hit][1:]]),
    )


def _farthest_hits(origins: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outermost intersection (Möller–Trumbore) of rays [K, 3] with triangles [F, 3, 3]; −1 where none."""
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    faces, barycentrics = np.full(len(origins), -1), np.zeros((len(origins), 3))
    for k, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        p = np.cross(direction, edge2)
        determinant = (edge1 * p).sum(1)
        safe = np.where(np.abs(determinant) < 1e-14, 1, determinant)
        s = origin - corners[:, 0]
        u = (s * p).sum(1) / safe
        q = np.cross(s, edge1)
        v = (q @ direction) / safe
        distance = (edge2 * q).sum(1) / safe
        hit = (np.abs(determinant) > 1e-14) & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0)
        if hit.any():
            best = int(np.argmax(np.where(hit, distance, -np.inf)))
            faces[k], barycentrics[k] = best, (1 - u[best] - v[best], u[best], v[best])
    return faces, barycentrics
