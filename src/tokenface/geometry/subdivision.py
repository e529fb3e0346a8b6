"""Subdivision of long triangles: the same surface with a round outline, as a linear function of its vertices.

The vertices that there are keep their places and indices; every edge longer than a limit gets a vertex in the middle
of the cubic whose tangents are square to the normals of its ends (Vlachos et al. 2001, "Curved PN Triangles"). That
place is written as a weighted sum of the vertices around the edge, once, on one mesh; the weights then hold for every
shape and every displacement of it, and follow affine motions exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS = 3
"""An edge is split at most so often."""
STEEPEST = 0.15
"""A new vertex lies at most so far off its edge, in lengths of the edge (a quarter circle: 0.21)."""
FLAT = 1e-5
"""Squared share of an edge's length: rings flatter than that bend nothing."""


@dataclass(frozen=True)
class Blend:
    """New points as weighted sums of old ones: new = Σ weights · old[source].  source, weights: [N, K]; sums are 1."""

    source: np.ndarray
    weights: np.ndarray

    def append(self, values: np.ndarray) -> np.ndarray:
        """[V + N, ...]: values at the old points [V, ...], then at the new ones."""
        new = np.einsum("nk,nk...->n...", self.weights, values[self.source].astype(np.float64))
        return np.concatenate([values, new.astype(values.dtype)])


@dataclass(frozen=True)
class Subdivision:
    """A denser mesh of the same surface. rounds: blends of places, of what is linear along an edge (skinning), and of
    texture coordinates, one round after the other.  faces, uv_faces: [F', 3] of the denser mesh.  origin: [F'] the
    triangle that each is a piece of."""

    rounds: tuple[tuple[Blend, Blend, Blend], ...]
    faces: np.ndarray
    uv_faces: np.ndarray
    origin: np.ndarray

    def places(self, values: np.ndarray) -> np.ndarray:
        """[V', ...] of places, or displacements of them, at the mesh's vertices [V, ...]."""
        return self._through(values, 0)

    def along_edges(self, values: np.ndarray) -> np.ndarray:
        """[V', ...] of shares that must stay in [0, 1], at the mesh's vertices [V, ...]."""
        return self._through(values, 1)

    def coordinates(self, uv: np.ndarray) -> np.ndarray:
        """[T', 2] of texture coordinates [T, 2]."""
        return self._through(uv, 2)

    def _through(self, values: np.ndarray, kind: int) -> np.ndarray:
        for blends in self.rounds:
            values = blends[kind].append(values)
        return values


def subdivision(
    vertices: np.ndarray,
    faces: np.ndarray,
    uv_faces: np.ndarray,
    coordinates: int,
    longest: float,
    keep: np.ndarray | None = None,
) -> Subdivision:
    """Split edges until none is longer than `longest`, each at most ROUNDS times, without T-junctions.

    Args:
        vertices: [V, 3] of the mesh that the weights are found on.  faces, uv_faces: [F, 3], a manifold.
        coordinates: T, how many texture coordinates there are.
        longest: in the unit of the vertices.
        keep: [K] vertices between which no edge is split.
    """
    places = vertices.astype(np.float64)
    kept = np.zeros(len(places), bool)
    if keep is not None:
        kept[keep] = True
    origin = np.arange(len(faces))
    rounds = []
    for _ in range(ROUNDS):
        edges, of_corner = _edges(faces)
        length = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1)
        split = (length > longest) & ~kept[edges].all(axis=1)
        if not split.any():
            break
        new = np.full(len(edges), -1)
        new[split] = len(places) + np.arange(split.sum())
        uv_edges, uv_of_corner = _edges(uv_faces)
        uv_split = np.zeros(len(uv_edges), bool)
        uv_split[uv_of_corner[split[of_corner]]] = True
        uv_new = np.full(len(uv_edges), -1)
        uv_new[uv_split] = coordinates + np.arange(uv_split.sum())
        middle = Blend(edges[split], np.full((int(split.sum()), 2), 0.5))
        uv_middle = Blend(uv_edges[uv_split], np.full((int(uv_split.sum()), 2), 0.5))
        rounds.append((_curved(places, faces, edges, of_corner, split), middle, uv_middle))
        places = rounds[-1][0].append(places)
        faces, uv_faces, piece_of = _split_faces(faces, uv_faces, new[of_corner], uv_new[uv_of_corner], places)
        origin = origin[piece_of]
        coordinates += int(uv_split.sum())
        kept = np.concatenate([kept, kept[edges[split]].any(axis=1)])
    return Subdivision(tuple(rounds), faces, uv_faces, origin)


def _edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges [E, 2], lower vertex first; [F, 3]: the edge from each corner to the next."""
    low, high = np.minimum(faces, np.roll(faces, -1, axis=1)), np.maximum(faces, np.roll(faces, -1, axis=1))
    count = int(faces.max()) + 1
    keys, inverse = np.unique(low.astype(np.int64) * count + high, return_inverse=True)
    return np.stack([keys // count, keys % count], axis=1), inverse.reshape(-1, 3)


_PIECES: dict[tuple[bool, bool, bool], tuple[tuple[int, int, int], ...]] = {
    (False, False, False): ((0, 1, 2),),
    (True, False, False): ((0, 3, 2), (3, 1, 2)),
    (True, False, True): ((5, 0, 3), (1, 2, 5), (1, 5, 3)),
    (True, True, True): ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)),
}
"""Split edges of a triangle → its pieces. Corners are 0, 1, 2; the vertex on the edge from corner i to the next, 3 + i.
Other triangles are these, turned."""
_OTHER_DIAGONAL = ((5, 0, 3), (1, 2, 3), (2, 5, 3))


def _split_faces(
    faces: np.ndarray, uv_faces: np.ndarray, new: np.ndarray, uv_new: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles in 1, 2, 3 or 4, as many of their edges have a vertex (new, uv_new: [F, 3], -1: none); of the two ways
    to cut what a corner leaves, the one with the shorter diagonal. Third: [F'] the triangle that each is a piece of."""
    whole, uv_whole = np.concatenate([faces, new], axis=1), np.concatenate([uv_faces, uv_new], axis=1)
    found, uv_found, piece_of = [], [], []
    for pattern, pieces in _PIECES.items():
        for turn in range(3 if 0 < sum(pattern) < 3 else 1):
            mine = ((new >= 0) == np.roll(pattern, turn)).all(axis=1)
            order = [(i + turn) % 3 for i in range(3)]
            order += [3 + i for i in order]
            names, uv_names = whole[mine][:, order], uv_whole[mine][:, order]
            cut = np.broadcast_to(np.array(pieces), (len(names), len(pieces), 3))
            if sum(pattern) == 2:
                one = np.linalg.norm(places[names[:, 1]] - places[names[:, 5]], axis=1)
                other = np.linalg.norm(places[names[:, 2]] - places[names[:, 3]], axis=1)
                cut = np.where((one <= other)[:, None, None], cut, np.array(_OTHER_DIAGONAL))
            piece_of.append(np.repeat(np.flatnonzero(mine), len(pieces)))
            row = np.arange(len(names))[:, None, None]
            found.append(names[row, cut].reshape(-1, 3))
            uv_found.append(uv_names[row, cut].reshape(-1, 3))
    return np.concatenate(found), np.concatenate(uv_found), np.concatenate(piece_of)


def _curved(
    places: np.ndarray, faces: np.ndarray, edges: np.ndarray, of_corner: np.ndarray, split: np.ndarray
) -> Blend:
    """Weights of the new vertices: those nearest to (1/2, 1/2) that bring the mesh's own new vertex about."""
    chosen = edges[split]
    middle, off = _off_the_chord(places, faces, edges, of_corner, chosen)
    ring = _rings(edges, len(places))
    source = np.concatenate([chosen, ring[chosen[:, 0]], ring[chosen[:, 1]]], axis=1)
    there = source >= 0
    source = np.where(there, source, chosen[:, :1])
    size = np.linalg.norm(places[chosen[:, 1]] - places[chosen[:, 0]], axis=1)
    away = (places[source] - middle[:, None]) / size[:, None, None]
    columns = np.concatenate([away, np.ones((*source.shape, 1))], axis=2) * there[..., None]
    wanted = np.concatenate([off / size[:, None], np.zeros((len(chosen), 1))], axis=1)
    square = np.einsum("nki,nkj->nij", columns, columns) + FLAT * np.diag([1.0, 1, 1, 0])
    weights = np.einsum("nki,ni->nk", columns, np.linalg.solve(square, wanted[..., None])[..., 0])
    weights[:, :2] += 0.5
    return Blend(source, weights)


def _off_the_chord(
    places: np.ndarray, faces: np.ndarray, edges: np.ndarray, of_corner: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] middles of the chosen edges, and what Hermite's midpoint adds to them: (t_a + t_b) / 8."""
    a, b = places[chosen[:, 0]], places[chosen[:, 1]]
    way = b - a
    length = np.linalg.norm(way, axis=1, keepdims=True)
    normals = _angle_normals(places, faces)
    bend = np.zeros_like(way)
    for end, sign in ((0, 1.0), (1, -1.0)):
        normal = normals[chosen[:, end]]
        tangent = sign * (way - (way * normal).sum(axis=1, keepdims=True) * normal)
        bend += tangent * length / np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    border = edges[np.bincount(of_corner.ravel(), minlength=len(edges)) == 1]
    beside = _rings(border, len(places))
    on_border = (chosen[:, None, 0] == border[None, :, 0]) & (chosen[:, None, 1] == border[None, :, 1])
    for row in np.flatnonzero(on_border.any(axis=1)):  # the border bends with itself alone: Catmull-Rom's tangents
        first, second = chosen[row]
        before = [other for other in beside[first] if other >= 0 and other != second]
        after = [other for other in beside[second] if other >= 0 and other != first]
        bend[row] = 0
        if len(before) == len(after) == 1:
            bend[row] = _along(places[before[0]], a[row], b[row]) + _along(places[after[0]], b[row], a[row])
    bend /= 8
    size = np.linalg.norm(bend, axis=1, keepdims=True)
    return (a + b) / 2, bend * np.minimum(1, STEEPEST * length / np.maximum(size, 1e-12))


def _along(before: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[3] tangent at `start` of the border that comes from `before` and goes to `end`; a corner's is the edge's own."""
    way, came = end - start, start - before
    straight = way @ came / max(np.linalg.norm(way) * np.linalg.norm(came), 1e-12)
    return (end - before) / 2 if straight > 0.5 else way


def _rings(edges: np.ndarray, count: int) -> np.ndarray:
    """[count, W] neighbours of each vertex along the edges, -1 behind them."""
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    valence = np.bincount(both[:, 0], minlength=count)
    ring = np.full((count, max(int(valence.max(initial=0)), 1)), -1)
    column = np.arange(len(both)) - np.repeat(np.cumsum(valence) - valence, valence)
    ring[both[:, 0], column] = both[:, 1]
    return ring


def _angle_normals(places: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] unit normals, every triangle counted by its angle: large neighbours do not outweigh small ones."""
    corners = places[faces]
    ahead = np.roll(corners, -1, axis=1) - corners
    ahead /= np.maximum(np.linalg.norm(ahead, axis=2, keepdims=True), 1e-12)
    behind = -np.roll(ahead, 1, axis=1)
    angles = np.arccos((ahead * behind).sum(axis=2).clip(-1, 1))
    flat = np.cross(ahead[:, 0], behind[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    total = np.zeros_like(places)
    for corner in range(3):
        np.add.at(total, faces[:, corner], flat * angles[:, corner, None])
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
