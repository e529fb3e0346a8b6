"""Teeth, gums and eyeballs in place of the base mesh's helper shapes, and the tongue's path.

The head model has a slab of 68 vertices for each row of teeth and a coarse ball for each eye: enough to train on, not
to look at. These parts stand where those are on the mean head, and follow them (`tokenface.head.parts`).
Sizes of crowns: mesio-distal and height, millimetres, means of adult anatomy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tokenface.head.parts import IRIS

UPPER = ((8.6, 10.5), (6.6, 9.3), (7.7, 10.3), (7.0, 8.6), (6.8, 8.4), (10.4, 7.6), (9.8, 7.2))
LOWER = ((5.4, 9.2), (6.0, 9.4), (6.9, 10.6), (7.0, 8.6), (7.2, 8.2), (11.0, 7.6), (10.4, 7.1))
"""Width and height of the crowns from the middle backwards, both sides alike."""
DEPTHS = (7.0, 6.6, 8.0, 8.8, 9.0, 10.6, 10.4)
"""Labio-lingual, at the gum, millimetres."""
LEVELS = (-0.2, 0.05, 0.3, 0.55, 0.78, 0.92, 1.0)
"""Rings of a crown: 0 at the gum, 1 at the edge."""
AROUND = 14
EYE_RINGS = (3, 6, 9, 12, 15, 17.5, 19.5, 20.5, 21.5, 24, 28, 33, 40, 48, 58, 70, 84, 100, 120, 145)
"""Degrees from the gaze axis; between the poles."""
EYE_SEGMENTS = 32
CORNEA = 0.0002
"""Metres that the cornea stands out."""


@dataclass(frozen=True)
class Arch:
    """A row of teeth on the mean head. half_width, length: of the ellipse, metres.  front: z of the incisors' outer
    face.  edge: y of their edges.  down: −1 for the upper row, whose crowns point down, +1 for the lower."""

    crowns: tuple[tuple[float, float], ...]
    half_width: float
    length: float
    front: float
    edge: float
    down: float


ARCHES = {
    "upper_teeth": Arch(UPPER, 0.0310, 0.0465, 0.0612, -0.0474, -1.0),
    "lower_teeth": Arch(LOWER, 0.0288, 0.0440, 0.0586, -0.0456, 1.0),
}


@dataclass(frozen=True)
class Shape:
    """vertices: [N, 3], metres, mean head.  faces: [F, 3], counter-clockwise from outside.  uv: [N, 2], v up."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def teeth(name: str) -> Shape:
    """A row: 14 crowns and the gum that they stand in."""
    arch = ARCHES[name]
    along, place, out = _curve(arch)
    widths = np.array([width for width, _ in arch.crowns]) * 1e-3
    # the row fills the arch: crowns touch
    scale = along[-1] * 0.985 / widths.sum()
    pieces = []
    for side in (-1.0, 1.0):
        start = 0.0
        for number, (_, height) in enumerate(arch.crowns):
            width = widths[number] * scale
            middle = start + width / 2
            start += width
            pieces.append(_crown(arch, number, width, height * 1e-3, middle, side, along, place, out))
    pieces.append(_gum(arch, widths * scale, along, place, out))
    return _joined(pieces)


def eyeball(centre: np.ndarray, radius: float) -> Shape:
    """A ball that looks along +z. Texture: distance from the middle grows as the root of the angle to the axis."""
    angles = np.radians(np.concatenate([[0.0], np.repeat(EYE_RINGS, EYE_SEGMENTS), [180.0]]))
    turns = np.concatenate([[0.0], np.tile(np.arange(EYE_SEGMENTS) / EYE_SEGMENTS * 2 * np.pi, len(EYE_RINGS)), [0.0]])
    bulge = CORNEA * np.clip(1 - (np.degrees(angles) / IRIS) ** 2, 0, 1)
    directions = np.stack([np.sin(angles) * np.cos(turns), np.sin(angles) * np.sin(turns), np.cos(angles)], axis=1)
    away = 0.5 * np.sqrt(angles / np.pi)
    uv = 0.5 + away[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return Shape(centre + directions * (radius + bulge)[:, None], _ball_faces(len(EYE_RINGS), EYE_SEGMENTS), uv)


def _curve(arch: Arch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half an arch from the middle backwards: arc length [K], x and z [K, 2], outward normals [K, 2]."""
    t = np.linspace(0, np.pi / 2, 2000)
    place = np.stack([arch.half_width * np.sin(t), arch.front - arch.length * (1 - np.cos(t))], axis=1)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(place, axis=0), axis=1))])
    out = np.stack([np.sin(t) / arch.half_width, np.cos(t) / arch.length], axis=1)
    return along, place, out / np.linalg.norm(out, axis=1, keepdims=True)


def _at(distance: float, side: float, along: np.ndarray, values: np.ndarray) -> np.ndarray:
    x, z = (np.interp(distance, along, values[:, axis]) for axis in (0, 1))
    return np.array([side * x, z])


def _crown(arch, number, width, height, middle, side, along, place, out) -> Shape:
    depth = DEPTHS[number] * 1e-3
    normal = _at(middle, side, along, out)
    normal /= np.linalg.norm(normal)
    tangent = np.array([normal[1], -normal[0]])
    centre = _at(middle, side, along, place) - normal * depth / 2
    sharp = number < 3
    rings = []
    for level in LEVELS:
        up = np.clip(level, 0, 1)
        broad = width * (0.84 + 0.16 * np.sin(min(up / 0.7, 1) * np.pi / 2))
        deep = depth * (1 - 0.70 * up) if sharp else depth * (1 - 0.16 * up)
        if level > 0.9:  # rounded corners
            broad *= 0.96 if level < 1 else (0.55 if number == 2 else 0.86)
            deep *= 0.9 if level < 1 else 0.6
        turn = np.arange(AROUND) / AROUND * 2 * np.pi
        across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.75 * broad / 2
        outward = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.75 * deep / 2
        lean = (depth - deep) / 2 * (0.72 if sharp else 0.5) + 0.0004 * np.sin(np.pi * up)
        flat = centre + across[:, None] * tangent + (outward + lean)[:, None] * normal
        y = arch.edge - arch.down * height * (1 - level)
        rings.append(np.column_stack([flat[:, 0], np.full(AROUND, y), flat[:, 1]]))
    tip = rings[-1].mean(axis=0)
    tip[1] += arch.down * (0.0012 if number == 2 else 0.0001 if sharp else -0.0007)
    vertices = np.concatenate([*rings, tip[None]])
    uv = np.concatenate(
        [
            np.column_stack([np.linspace(0.02, 0.46, AROUND), np.full(AROUND, 0.54 + 0.42 * np.clip(level, 0, 1))])
            for level in LEVELS
        ]
        + [[[0.24, 0.97]]]
    )
    faces = _tube_faces(len(LEVELS), AROUND, closed=True)
    last = (len(LEVELS) - 1) * AROUND
    cap = [[last + k, last + (k + 1) % AROUND, len(vertices) - 1] for k in range(AROUND)]
    return _outward(Shape(vertices, np.array([*faces, *cap]), uv))


def _gum(arch, widths, along, place, out) -> Shape:
    """A strip over the arch, outer side, margin, inner side; between two teeth the margin rises to a papilla."""
    borders = np.concatenate([[0.0], np.cumsum(widths)])
    steps = np.unique(np.concatenate([np.linspace(a, b, 7) for a, b in itertools.pairwise(borders)]))
    steps = np.append(steps, steps[-1] + 0.002)
    depths, heights = np.array(DEPTHS) * 1e-3, np.array([height for _, height in arch.crowns]) * 1e-3
    centres = (borders[:-1] + borders[1:]) / 2
    rows = []
    for signed in np.concatenate([-steps[::-1], steps[1:]]):
        side, distance = (-1.0 if signed < 0 else 1.0), abs(signed)
        normal = _at(distance, side, along, out)
        normal /= np.linalg.norm(normal)
        edge = _at(distance, side, along, place)
        deep = np.interp(distance, centres, depths)
        tooth = min(int(np.searchsorted(borders[1:], distance)), len(widths) - 1)
        within = (distance - borders[tooth]) / widths[tooth]
        papilla = 0.0026 * np.clip(abs(2 * within - 1), 0, 1) ** 3
        base = arch.edge - arch.down * np.interp(distance, centres, heights)
        profile = (
            *((0.0004, -0.0085), (0.0011, -0.0045), (0.0009, -0.0015), (0.0001, papilla)),
            *((-0.0012, papilla + 0.0001), (-deep + 0.0012, papilla), (-deep - 0.0004, papilla - 0.0004)),
            *((-deep - 0.0012, -0.0030), (-deep - 0.0012, -0.0085)),
        )
        for outward, level in profile:
            flat = edge + normal * outward
            rows.append([flat[0], base + arch.down * level, flat[1]])
    width, count = 9, len(rows) // 9
    u, v = np.meshgrid(np.linspace(0.54, 0.96, count), np.linspace(0.56, 0.94, width), indexing="ij")
    faces = _tube_faces(count, width, closed=False)
    return _outward(Shape(np.array(rows), faces, np.stack([u.ravel(), v.ravel()], axis=1)))


def _tube_faces(rings: int, around: int, closed: bool) -> np.ndarray:
    faces = []
    for ring in range(rings - 1):
        for k in range(around if closed else around - 1):
            a, b = ring * around + k, ring * around + (k + 1) % around
            faces += [[a, b, b + around], [a, b + around, a + around]]
    return np.array(faces)


def _ball_faces(rings: int, segments: int) -> np.ndarray:
    """Poles are the first and the last vertex; counter-clockwise from outside, as turns go about +z."""
    faces = [[0, 1 + k, 1 + (k + 1) % segments] for k in range(segments)]
    faces += (_tube_faces(rings, segments, closed=True)[:, [0, 2, 1]] + 1).tolist()
    last = 1 + (rings - 1) * segments
    faces += [[last + (k + 1) % segments, last + k, 1 + rings * segments] for k in range(segments)]
    return np.array(faces)


def _outward(shape: Shape) -> Shape:
    """Triangles turned so that the shape's volume about its own middle is positive."""
    corners = (shape.vertices - shape.vertices.mean(axis=0))[shape.faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return shape if volume > 0 else Shape(shape.vertices, shape.faces[:, ::-1], shape.uv)


def _joined(pieces: list[Shape]) -> Shape:
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces[:-1])])
    return Shape(
        np.concatenate([piece.vertices for piece in pieces]),
        np.concatenate([piece.faces + start for piece, start in zip(pieces, starts, strict=True)]),
        np.concatenate([piece.uv for piece in pieces]),
    )
