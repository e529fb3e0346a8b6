"""Iris colour of a person, measured on the photo."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tokenface.errors import OutputError
from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.head.arrays import AnyHead
from tokenface.head.data import LEFT_EYE, RIGHT_EYE
from tokenface.head.parts import IRIS
from tokenface.images.srgb import LUMINANCE, from_linear, to_linear
from tokenface.inference.expressions import eye_rotations
from tokenface.inference.maps import PARTS, FaceMaps
from tokenface.inference.part_rig import SCLERA, parts_of
from tokenface.parameters import FaceParameters
from tokenface.texture.seen import SeenFace

SMALLEST = 4.0
"""Pixels of the iris's radius on the photo, below which it has no colour that could be told."""
LEAST_SEEN = 0.35
"""Share of the ring between pupil and rim that must lie between the lids."""
RING, WHITE = (0.45, 0.8), (1.25, 1.9)
"""Where iris and white are looked for, over the iris's radius."""
SEARCH = np.linspace(-0.6, 0.6, 9)
"""Offsets over the iris's radius: the predicted gaze is not exact; the place with most contrast is the eye's."""
CONTRAST = 0.12
"""Of sRGB, white over iris, below which the eye counts as not found (shut, in shadow, behind glasses)."""
GAIN = (0.75, 2.5)
"""Limits of the correction that makes the white of the eye white, linear light."""


class EyedFace(SeenFace, Protocol):
    """Protocol of a face with eyes."""

    @property
    def size(self) -> float: ...
    @property
    def parameters(self) -> FaceParameters: ...
    def maps(self) -> FaceMaps: ...


def iris_of_photo(face: EyedFace, photo: np.ndarray) -> np.ndarray | None:
    """[3] uint8 sRGB as under white light; None where the photo does not show it.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in.
    """
    if parts_of(face.head) is None:
        return None
    radius = _radius(face.head) * face.size * face.camera.pixels_per_metre
    if radius < SMALLEST:
        return None
    try:
        maps = face.maps()
    except OutputError:  # the head lies outside of the photo
        return None
    labels = maps.on_photo(maps.parts)
    found = []
    for name, side, joint in (("left_eye", 0, LEFT_EYE), ("right_eye", 1, RIGHT_EYE)):
        middle = _iris_middle(face, side, joint)
        colours = _ring_colours(photo, labels == PARTS.index(name), middle, radius)
        if colours is not None:
            found.append(colours)
    return None if not found else _balanced(*max(found, key=_contrast))


def _radius(head: AnyHead) -> float:
    """Metres of the iris on the mean head."""
    eye = head.data.template[head.data.regions["left_eyeball"]] - head.data.joint_template[LEFT_EYE]
    return float(np.sin(np.radians(IRIS)) * np.linalg.norm(eye, axis=1).mean())


def _iris_middle(face: EyedFace, side: int, joint: int) -> np.ndarray:
    """[2] photo pixels."""
    name = ("left_eyeball", "right_eyeball")[side]
    eye = face.vertices[face.head.data.regions[name]].astype(np.float64)
    centre = (eye.max(axis=0) + eye.min(axis=0)) / 2
    turn = rotation_matrix(eye_rotations(face.head, face.parameters.expression)[side])
    forward = turn @ [0.0, 0.0, 1.0] * np.linalg.norm(eye - centre, axis=1).mean() * np.cos(np.radians(IRIS))
    return face.camera.project((centre + forward)[None])[0]


def _ring_colours(
    photo: np.ndarray, open_to: np.ndarray, middle: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Median colours of iris and white, [3] in [0, 1] each, at the best of the searched places."""
    best, least = None, CONTRAST
    for dx in SEARCH:
        for dy in SEARCH:
            place = middle + radius * np.array([dx, dy])
            iris = _samples(photo, open_to, place, radius, RING)
            white = _samples(photo, open_to, place, radius, WHITE)
            if iris is None or white is None:
                continue
            pair = np.median(iris, axis=0), np.median(white, axis=0)
            if (contrast := _contrast(pair)) > least:
                best, least = pair, contrast
    return best


def _samples(photo, open_to, place, radius, ring) -> np.ndarray | None:
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    away = radius * np.linspace(ring[0], ring[1], 4)
    points = place + (away[:, None, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)).reshape(-1, 2)
    column, row = np.floor(points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < photo.shape[1]) & (row < photo.shape[0])
    column, row = column[inside], row[inside]
    seen = open_to[row, column]
    needed = LEAST_SEEN if ring is RING else LEAST_SEEN / 2  # lids cover more of the white
    if seen.sum() < needed * len(points):
        return None
    return photo[row[seen], column[seen]] / 255.0


def _contrast(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """White over iris."""
    return float((pair[1] - pair[0]) @ LUMINANCE)


def _balanced(iris: np.ndarray, white: np.ndarray) -> np.ndarray:
    gain = (to_linear(np.array(SCLERA) / 255) / to_linear(white).clip(1e-3)).clip(*GAIN)
    light = (to_linear(iris) * gain).clip(0, 1)
    return np.rint(from_linear(light).clip(0.05, 0.9) * 255).astype(np.uint8)
