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
"""Share of the iris that must lie between the lids; of the white, half as much: lids cover more of it."""
WHOLE, RING, WHITE = (0.05, 0.9), (0.45, 0.8), (1.25, 1.9)
"""Where pupil and iris, the iris alone and the white are looked for, over the iris's radius."""
PROFILE = np.arange(0.1, 0.92, 0.05)
"""Radii over the iris's, at which the pupil's edge is looked for."""
PUPILS = (0.3, 0.82)
"""Radii of a pupil that can be told, in a bright and in a dark room."""
PUPIL_STEP = 0.05
"""Of sRGB, iris over pupil; below it the two are of one colour anyway."""
IRIS_LEVEL = 0.75
"""Where an iris is, at most, between pupil and white; what is lighter is the white of an iris that is smaller."""
EDGE = 0.1
"""Beyond the pupil's edge, over the iris's radius, where its blur ends."""
SEARCH = np.linspace(-0.6, 0.6, 9)
"""Offsets over the iris's radius: the predicted gaze is not exact; the place whose disc holds most that is darker than
the white round it is the eye's."""
FINER = np.linspace(-0.1, 0.1, 5)
"""The same about the best of those."""
CONTRAST = 0.12
"""Of sRGB, white over iris, below which the eye counts as not found (shut, in shadow, behind glasses)."""
PALEST = 0.38
"""Linear luminance of an iris over the white's, at most (light blue ones: 0.3). What is paler is skin or a reflection,
seen where the predicted lids do not fit the photo's."""
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
    best, most = None, 0.0
    for steps in (SEARCH, FINER):
        start = middle if best is None else best[0]
        for dx in steps:
            for dy in steps:
                place = start + radius * np.array([dx, dy])
                dark = _samples(photo, open_to, place, radius, WHOLE, LEAST_SEEN)
                white = _samples(photo, open_to, place, radius, WHITE, LEAST_SEEN / 2)
                if dark is None or white is None:
                    continue
                # all of the darkness, pupil's and iris's: it is inside where the disc lies on the eye's, however wide
                # the pupil is and whatever the lids hide
                level = np.median(white, axis=0)
                contrast = _contrast((dark.mean(axis=0), level))
                if contrast > CONTRAST and contrast * len(dark) > most:
                    best, most = (place, level), contrast * len(dark)
    if best is None:
        return None
    place, white_colour = best
    pupil = _pupil(photo, open_to, place, radius, float(white_colour @ LUMINANCE))
    inner = max(RING[0], pupil + EDGE)
    iris = _samples(photo, open_to, place, radius, (inner, max(RING[1], inner + EDGE)), LEAST_SEEN)
    if iris is None:
        return None
    pair = np.median(iris, axis=0), white_colour
    return pair if _contrast(pair) > CONTRAST and _paleness(pair) < PALEST else None


def _pupil(photo: np.ndarray, open_to: np.ndarray, place: np.ndarray, radius: float, white: float) -> float:
    """Radius of the pupil over the iris's: the step from dark to light, going outwards, that explains most of the
    profile's variance; 0 where there is none. white: luminance round the iris."""
    levels, sizes = [], []
    for share in PROFILE:
        ring = _samples(photo, open_to, place, radius, (share, share), LEAST_SEEN / 2)
        if ring is not None:
            levels.append(float(np.median(ring @ LUMINANCE)))
            sizes.append(share)
    level, size = np.array(levels), np.array(sizes)
    best, most = 0.0, 0.0
    for edge in size[(size >= PUPILS[0]) & (size <= PUPILS[1])]:
        inside = size <= edge
        if inside.all():
            continue
        dark, light = level[inside].mean(), level[~inside].mean()
        if light - dark > IRIS_LEVEL * (white - dark):
            continue
        step = light - dark
        explained = step**2 * inside.mean() * (1 - inside.mean())
        if step > PUPIL_STEP and explained > most:
            best, most = float(edge), explained
    return best


def _samples(photo, open_to, place, radius, ring, needed) -> np.ndarray | None:
    """[S, 3] in [0, 1], spread evenly over the ring's area; None where less than `needed` of it is between the lids."""
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rounds = 1 if ring[0] == ring[1] else 4 if ring is not WHOLE else 7
    away = radius * np.sqrt(np.linspace(ring[0] ** 2, ring[1] ** 2, rounds))
    points = place + (away[:, None, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)).reshape(-1, 2)
    column, row = np.floor(points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < photo.shape[1]) & (row < photo.shape[0])
    column, row = column[inside], row[inside]
    seen = open_to[row, column]
    if seen.sum() < needed * len(points):
        return None
    return photo[row[seen], column[seen]] / 255.0


def _contrast(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """White over iris."""
    return float((pair[1] - pair[0]) @ LUMINANCE)


def _paleness(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """Iris over white, linear light."""
    iris, white = (float(to_linear(colour) @ LUMINANCE) for colour in pair)
    return iris / max(white, 1e-6)


def _balanced(iris: np.ndarray, white: np.ndarray) -> np.ndarray:
    gain = (to_linear(np.array(SCLERA) / 255) / to_linear(white).clip(1e-3)).clip(*GAIN)
    light = (to_linear(iris) * gain).clip(0, 1)
    return np.rint(from_linear(light).clip(0.05, 0.9) * 255).astype(np.uint8)
