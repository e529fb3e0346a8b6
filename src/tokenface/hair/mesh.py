"""Mesh of a hairstyle: a cap close to the head, and cards of strands that lie on it and make its outline hairy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tokenface.data.scene.anatomy import AZIMUTH
from tokenface.data.scene.shell import Shell
from tokenface.formats.rig import PartMaterial, RigPart
from tokenface.hair.fit import HANGING_ROWS, ROWS, HairStyle, placement
from tokenface.hair.texture import CAP_SHARE, LOCKS, lock_span
from tokenface.head.data import JOINT_NAMES
from tokenface.head.model import HeadModel
from tokenface.head.registration import Layers

NAME, CARRIER = "hair", "neck"
CAP_INSIDE = 0.0025
"""Metres that the cap lies below the shell, on which the cards lie."""
ROOT = 0.25
"""Share of a card's length over which it rises out of the cap."""
CARDS = 260
CARD_POINTS = 9
CARD_WIDTH = (0.010, 0.024)
"""Metres."""
LIFT = (0.0005, 0.005)
"""Metres by which cards end above the shell."""
SHORTEST, LONGEST = 0.018, 0.14
"""Metres of a card."""
FADE = 0.035
"""Metres before a free end over which the cap's strands thin out."""
NECK_BEHIND = 0.02
"""Metres from the middle of the head's vertices back to the neck's axis."""
MARGIN = 0.02
"""Of the texture's height, kept from its upper and lower edge: players that repeat it blend the two."""
CLEAR = 0.006
"""Metres that hanging hair keeps from the neck."""
SECTORS, SLICES = 24, 12
"""Round the neck and down it, in which its radius is measured."""
DEGENERATE = 1e-9
"""Square metres; smaller triangles are left out."""


@dataclass(frozen=True, eq=False)
class _Sheet:
    """vertices, normals: [n, 3].  faces: [m, 3].  uv: [n, 2], v up."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def hair_part(head: HeadModel, neutral: np.ndarray, style: HairStyle, material: PartMaterial, seed: int = 0) -> RigPart:
    """The hair of a relaxed head, carried by the joint that turns the skull.

    Args:
        neutral: [V, 3] metres, head space.
    """
    shell = Shell(ROWS, HANGING_ROWS)
    shape = shell.shape(placement(head, neutral), style.shell)
    grid = shape.vertices[0].double().numpy().reshape(ROWS + HANGING_ROWS, AZIMUTH, 3)
    ends = (torch.zeros_like(shape.vertices[0, :, 0]) if shape.end is None else shape.end[0]).numpy()
    grid = _beside_neck(grid, head, neutral)
    outward = _outward(grid)
    cap = _cap(grid - CAP_INSIDE * outward, outward, ends.reshape(grid.shape[:2]), shell.topology.faces.numpy())
    cards = _cards(grid, outward, np.random.default_rng(seed))
    vertices = np.concatenate([cap.vertices, cards.vertices]).astype(np.float32)
    faces = np.concatenate([cap.faces, cards.faces + len(cap.vertices)]).astype(np.int64)
    return RigPart(
        name=NAME,
        rest=vertices,
        faces=faces,
        uv=np.concatenate([cap.uv, cards.uv]).astype(np.float32),
        skinning_weights=on_skull(len(vertices)),
        morph_names=(),
        morphs=np.zeros((0, len(vertices), 3), np.float32),
        morph_weights=np.zeros(0, np.float32),
        fallbacks=frozenset(),
        material=material,
        normals=np.concatenate([cap.normals, cards.normals]).astype(np.float32),
    )


def on_skull(count: int) -> np.ndarray:
    """[count, J] float32 skinning weights of what turns with the skull."""
    weights = np.zeros((count, len(JOINT_NAMES)), np.float32)
    weights[:, JOINT_NAMES.index(CARRIER)] = 1
    return weights


def strip_faces(points: int) -> np.ndarray:
    """[2 (points − 1), 3] triangles of one card whose vertices are the two edges' points, in turn."""
    corner = 2 * np.arange(points - 1)[:, None]
    return np.concatenate([corner + np.array([0, 2, 1]), corner + np.array([1, 2, 3])])


def _beside_neck(grid: np.ndarray, head: HeadModel, neutral: np.ndarray) -> np.ndarray:
    """The shell whose hanging rows stand clear of the neck; below it they keep the distance of its lower end."""
    data = head.data
    skin = np.asarray(neutral, np.float64)[Layers.of(data).skin]
    axis = np.array([0.0, np.asarray(neutral)[:, 2].mean() - NECK_BEHIND])
    low, high = skin[:, 1].min(), grid[ROWS - 1, :, 1].max()
    around = np.arctan2(skin[:, 0], skin[:, 2] - axis[1])
    radius = np.hypot(skin[:, 0], skin[:, 2] - axis[1])
    sector = ((around / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    height = ((skin[:, 1] - low) / (high - low) * SLICES).astype(int).clip(0, SLICES)
    table = np.zeros((SLICES + 1, SECTORS))
    np.maximum.at(table, (height, sector), radius)
    table = table[:SLICES]
    # a slice without a vertex has what is above it, and sectors and slices blend
    for each in range(SLICES - 2, -1, -1):
        table[each] = np.where(table[each] > 0, table[each], table[each + 1])
    table = np.maximum(table, (np.roll(table, 1, 1) + np.roll(table, -1, 1)) / 2)
    hanging = grid[ROWS:].copy()
    away = hanging[..., [0, 2]] - axis
    turn = (np.arctan2(away[..., 0], away[..., 1]) / (2 * np.pi) + 0.5) * SECTORS - 0.5
    left = np.floor(turn).astype(int)
    level = ((hanging[..., 1] - low) / (high - low) * SLICES - 0.5).clip(0, SLICES - 1.001)
    row = level.astype(int)

    def at(rows: np.ndarray) -> np.ndarray:
        share = turn - left
        return table[rows, left % SECTORS] * (1 - share) + table[rows, (left + 1) % SECTORS] * share

    least = at(row) * (1 - (level - row)) + at(np.minimum(row + 1, SLICES - 1)) * (level - row) + CLEAR
    distance = np.linalg.norm(away, axis=-1)
    hanging[..., [0, 2]] = axis + away * (np.maximum(distance, least) / distance.clip(1e-6))[..., None]
    return np.concatenate([grid[:ROWS], hanging])


def _outward(grid: np.ndarray) -> np.ndarray:
    """[R, C, 3] unit normals of the shell; the first and the last column are one place."""
    down = np.gradient(grid, axis=0)
    ring = np.concatenate([grid[:, -2:-1], grid, grid[:, 1:2]], axis=1)
    across = (ring[:, 2:] - ring[:, :-2]) / 2
    normals = np.cross(down, across)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    middle = grid[: ROWS // 2].reshape(-1, 3).mean(axis=0)
    away = grid - middle
    away /= np.linalg.norm(away, axis=-1, keepdims=True).clip(1e-9)
    # rows that do not hang lie on one another
    flat = length < 1e-10
    turned = np.sign((normals * away)[:ROWS].sum())  # one side of the whole sheet is its outer one
    return np.where(flat, away, turned * normals / length.clip(1e-12))


def _cap(grid: np.ndarray, outward: np.ndarray, ends: np.ndarray, faces: np.ndarray) -> _Sheet:
    vertices = grid.reshape(-1, 3)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    kept = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2 > DEGENERATE]
    turn = np.arange(grid.shape[1]) / (grid.shape[1] - 1)
    wave = np.abs((turn * 4) % 2 - 1)  # to and fro, so that no repeated texture is needed
    u = np.broadcast_to(wave * CAP_SHARE, grid.shape[:2])
    v = MARGIN + (1 - 2 * MARGIN) * (1 - np.exp(-ends.clip(0) / FADE))
    return _Sheet(vertices, outward.reshape(-1, 3), kept, np.stack([u, v], axis=-1).reshape(-1, 2))


def _cards(grid: np.ndarray, outward: np.ndarray, random: np.random.Generator) -> _Sheet:
    """Strips down the shell's columns: beginning in the cap, ending on or above the shell."""
    columns = grid.shape[1]
    steps = np.linalg.norm(np.diff(grid, axis=0), axis=-1)
    depth = np.vstack([np.zeros(columns), steps.cumsum(axis=0)])  # metres from the whorl
    vertices: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    uv: list[np.ndarray] = []
    for _ in range(CARDS):
        column = random.uniform(0, columns - 1)
        length_of_column = np.interp(column, np.arange(columns), depth[-1])
        length = min(random.uniform(SHORTEST, LONGEST), 0.9 * length_of_column)
        # as many per area everywhere: columns part on their way down; and more of them at the ends
        start = length_of_column - length if random.random() < 0.35 else None
        if start is None:
            start = random.random() ** 0.8 * (length_of_column - length)
        strip, normal = _strip(grid, outward, depth, column, start, length, random)
        lock = random.integers(LOCKS)
        low, high = lock_span(lock)
        if random.random() < 0.5:
            low, high = high, low
        first = 2 * CARD_POINTS * len(vertices)
        vertices.append(strip.reshape(-1, 3))
        normals.append(np.repeat(normal, 2, axis=0))
        along = np.linspace(1 - MARGIN, MARGIN, CARD_POINTS)
        uv.append(np.stack([np.tile([low, high], CARD_POINTS), np.repeat(along, 2)], axis=1))
        faces.append(first + strip_faces(CARD_POINTS))
    return _Sheet(np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces), np.concatenate(uv))


def _strip(
    grid: np.ndarray,
    outward: np.ndarray,
    depth: np.ndarray,
    column: float,
    start: float,
    length: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """[CARD_POINTS, 2, 3] left and right edge of a card, and [CARD_POINTS, 3] the normals of the shell below it."""
    along = np.linspace(0, 1, CARD_POINTS)
    drift = random.normal() * 1.2 * along**1.5  # columns
    path = np.clip(column + drift, 0, grid.shape[1] - 1 - 1e-6)
    down = start + along * length
    centre = np.stack([_at(grid, depth, c, d) for c, d in zip(path, down, strict=True)])
    normal = np.stack([_at(outward, depth, c, d) for c, d in zip(path, down, strict=True)])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
    tangent = np.gradient(centre, axis=0)
    side = np.cross(normal, tangent)
    side /= np.linalg.norm(side, axis=1, keepdims=True).clip(1e-9)
    rise = -1.6 * CAP_INSIDE * (1 - along / ROOT).clip(0) + random.uniform(*LIFT) * along**1.3
    width = random.uniform(*CARD_WIDTH) / 2 * (0.75 + 0.25 * np.sin(np.pi * along))
    middle = centre + normal * rise[:, None]
    return np.stack([middle - side * width[:, None], middle + side * width[:, None]], axis=1), normal


def _at(grid: np.ndarray, depth: np.ndarray, column: float, down: float) -> np.ndarray:
    """[3] of a grid [R, C, 3] at a fractional column, so many metres from its top."""
    left = int(column)
    share = column - left
    both = []
    for each in (left, left + 1):
        row = np.interp(down, depth[:, each], np.arange(len(depth)))
        upper = min(int(row), len(depth) - 2)
        both.append(grid[upper, each] + (row - upper) * (grid[upper + 1, each] - grid[upper, each]))
    return both[0] * (1 - share) + both[1] * share
