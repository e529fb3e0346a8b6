"""Brows: cards of short hairs along both arcs, lying on the skin and moving with it."""

from __future__ import annotations

import cv2
import numpy as np

from tokenface.formats.rig import PartMaterial, Rig, RigPart
from tokenface.geometry.closest import closest_on_mesh, on_triangles
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.hair.mesh import MARGIN, on_skull, strip_faces
from tokenface.hair.texture import LOCKS, ROUGHNESS, lock_span, strands
from tokenface.head.model import HeadModel
from tokenface.head.registration import Layers
from tokenface.images.srgb import LUMINANCE, bytes_to_linear
from tokenface.inference.face import Face

NAME = "brows"
ARCS = ((21, 20, 19, 18, 17), (22, 23, 24, 25, 26))
"""iBUG points of the right and the left brow, from the nose outwards."""
CARDS, POINTS = 130, 4
"""Of each brow, and of each card's length."""
LENGTH, WIDTH = (0.004, 0.008), (0.0007, 0.0014)
"""Metres."""
THICKNESS = (0.0020, 0.0022, 0.0017, 0.0006)
"""Metres from the arc to a brow's edge, from the nose outwards."""
RISE = (60, 25, 3, -10)
"""Degrees by which hairs point above the arc, from the nose outwards."""
LIFT = (0.0001, 0.0006)
"""Metres above the skin, of roots and of the highest tips."""
LOWERED = 0.0022
"""Metres from iBUG's points, which sit on a brow's upper edge, down to its middle."""
LEAST = 1e-4
"""Metres: targets that move brows less are left out."""
DARK = 0.25
"""Share of a brow's pixels, the darkest, that are hairs."""
TEXTURE, CONTRAST = 128, 0.2


def brows_part(head: HeadModel, rig: Rig, material: PartMaterial, seed: int = 0) -> RigPart:
    """The brows of a rig's head, with its targets as far as they move them."""
    data = head.data
    rest = np.asarray(rig.rest, np.float64)
    faces = np.asarray(data.faces)[Layers.of(data).skin[np.asarray(data.faces)].all(1)]
    points = head.points68(rest.astype(np.float32), 0.0)
    random = np.random.default_rng(seed)
    roots, ways, widths, lifts = (
        np.concatenate(each) for each in zip(*(_hairs(points[list(arc)], random) for arc in ARCS), strict=True)
    )
    along = np.linspace(0, 1, POINTS)
    middles = roots[:, None] + ways[:, None] * along[:, None]
    triangle, weights = closest_on_mesh(middles.reshape(-1, 3), rest, faces)
    skin = on_triangles(rest, faces, triangle, weights)
    normals = on_triangles(mesh_normals(rest, np.asarray(data.faces)), faces, triangle, weights)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    side = np.cross(normals, np.repeat(ways, POINTS, axis=0))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    height = LIFT[0] + (lifts[:, None] - LIFT[0]) * along**1.3
    half = np.repeat(widths / 2, POINTS)[:, None] * side
    place = skin + normals * height.reshape(-1, 1)
    vertices = np.stack([place - half, place + half], axis=1).reshape(-1, 3)
    moves = np.repeat(on_triangles(np.asarray(rig.morphs, np.float64), faces, triangle, weights), 2, axis=1)
    kept = np.flatnonzero(np.abs(moves).max((1, 2), initial=0) > LEAST)
    count = len(roots)
    return RigPart(
        name=NAME,
        rest=vertices.astype(np.float32),
        faces=(2 * POINTS * np.arange(count)[:, None, None] + strip_faces(POINTS)).reshape(-1, 3),
        uv=_uv(count, random),
        skinning_weights=on_skull(len(vertices)),
        morph_names=tuple(rig.morph_names[index] for index in kept),
        morphs=moves[kept].astype(np.float32),
        morph_weights=np.asarray(rig.morph_weights, np.float32)[kept],
        fallbacks=frozenset(),
        material=material,
        normals=np.repeat(normals, 2, axis=0).astype(np.float32),
    )


def _hairs(arc: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Roots [n, 3], vectors to the tips [n, 3], widths [n] and heights of the tips [n]. arc: [5, 3]."""
    steps = np.concatenate([[0], np.linalg.norm(np.diff(arc, axis=0), axis=1).cumsum()])
    share = random.uniform(-0.04, 0.96, CARDS)

    def at(where: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(where * steps[-1], steps, arc[:, axis]) for axis in range(3)], axis=1)

    tangent = at(np.minimum(share + 0.08, 1)) - at(np.minimum(share + 0.08, 1) - 0.12)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0])
    knots = np.linspace(0, 1, len(THICKNESS))
    across = random.uniform(-1, 1, CARDS) * np.interp(share, knots, THICKNESS)
    angle = np.radians(np.interp(share, knots, RISE) + random.normal(size=CARDS) * 8)
    # upper hairs lie down, lower ones rise: they meet
    angle = angle - 0.35 * across / THICKNESS[0]
    way = np.cos(angle)[:, None] * tangent + np.sin(angle)[:, None] * up
    length = random.uniform(*LENGTH, CARDS)
    roots = at(share.clip(0, 1)) + (across - LOWERED)[:, None] * up - 0.5 * length[:, None] * way
    return roots, way * length[:, None], random.uniform(*WIDTH, CARDS), random.uniform(LIFT[1] / 2, LIFT[1], CARDS)


def _uv(count: int, random: np.random.Generator) -> np.ndarray:
    """[count · 2 · POINTS, 2] on the locks of `texture.strands`."""
    lock = random.integers(LOCKS, size=count)
    edges = np.stack(lock_span(lock), axis=1)
    edges = np.where(random.random((count, 1)) < 0.5, edges, edges[:, ::-1])
    u = np.broadcast_to(edges[:, None], (count, POINTS, 2))
    v = np.broadcast_to(np.linspace(1 - MARGIN, MARGIN, POINTS)[None, :, None], u.shape)
    return np.stack([u, v], axis=-1).reshape(-1, 2).astype(np.float32)


def brows_material(face: Face, photo: np.ndarray, seed: int = 0) -> PartMaterial:
    """Hairs in the colour of the brows' darkest pixels. photo: [H, W, 3] uint8 RGB."""
    arcs = face.landmarks3d[[point for arc in ARCS for point in arc]]
    spread = (np.linspace(-THICKNESS[0], THICKNESS[0], 9) - LOWERED)[:, None, None] * np.array([0.0, 1.0, 0.0])
    places = np.floor(face.camera.project((arcs + spread).reshape(-1, 3))).astype(np.int64)
    height, width = photo.shape[:2]
    places = places.clip(0, [width - 1, height - 1])
    colours = bytes_to_linear(photo[places[:, 1], places[:, 0]])
    light = colours @ LUMINANCE
    colour = colours[light <= np.quantile(light, DARK)].mean(axis=0)
    picture = cv2.resize(strands(colour, CONTRAST, seed), (TEXTURE, TEXTURE), interpolation=cv2.INTER_AREA)
    return PartMaterial(NAME, picture, ROUGHNESS)
