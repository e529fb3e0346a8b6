"""Canvas of the albedo painter: surface point and region of every texel of the UV layout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.regions import anchors, package_mask
from tokenface.tools.openhead.uv import TEXTURE_SIZE, eye_axis, parts

_LID_RING = 3


@dataclass(frozen=True)
class Canvas:
    """N painted texels of an R × R map (R = TEXTURE_SIZE)."""

    rows: np.ndarray  # [N] row, 0 at v = 1
    columns: np.ndarray  # [N]
    points: np.ndarray  # [N, 3] position on the neutral head, metres, float32
    part: dict[str, np.ndarray]  # name → [N] bool, see uv.parts
    lips: np.ndarray  # [N] painted vermilion, 0..1
    rim_upper: np.ndarray  # [N] metres to the visible edge of the upper lid; large off the skin
    rim_lower: np.ndarray  # [N] the same for the lower lid
    lid_margin: np.ndarray  # [N] 0 on the face, rising to 1 where the lids' inner edge meets the socket
    anchor: dict[str, np.ndarray]  # name → [3]
    eyes: dict[str, tuple[np.ndarray, np.ndarray, float]]  # 'left', 'right' → centre [3], axis [3], radius
    nearest: tuple[np.ndarray, np.ndarray]  # row and column of the nearest painted texel of every texel, [R, R] each

    def to_map(self, values: np.ndarray) -> np.ndarray:
        """[..., N, C] → [..., R, R, C]; unpainted texels repeat the nearest painted one, so no seam shows."""
        full = np.zeros((*values.shape[:-2], TEXTURE_SIZE, TEXTURE_SIZE, values.shape[-1]), values.dtype)
        full[..., self.rows, self.columns, :] = values
        return full[..., self.nearest[0], self.nearest[1], :]


def make_canvas(cut: HeadCut, vertices: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray) -> Canvas:
    """Locate every texel whose centre a triangle of the layout covers."""
    triangle, barycentric = _cover(uv, uv_faces)
    rows, columns = np.nonzero(triangle >= 0)
    face, weight = triangle[rows, columns], barycentric[rows, columns]
    points = (vertices[cut.faces[face]] * weight[..., None]).sum(1)
    source_uv = (cut.uv[cut.uv_faces[face]] * weight[..., None]).sum(1)
    part = {name: inside[face] for name, inside in parts(cut, vertices).items()}
    lips = np.where(part["skin"], package_mask("lips", source_uv), 0)
    upper, lower, margin = _lid_margins(cut, vertices)
    far = np.where(part["skin"] | part["left_socket"] | part["right_socket"], 0, 1)
    nearest = distance_transform_edt(triangle < 0, return_distances=False, return_indices=True)
    return Canvas(
        rows=rows,
        columns=columns,
        points=points.astype(np.float32),
        part=part,
        lips=lips.astype(np.float32),
        rim_upper=(cKDTree(upper).query(points)[0] + far).astype(np.float32),
        rim_lower=(cKDTree(lower).query(points)[0] + far).astype(np.float32),
        lid_margin=(margin[cut.faces[face]] * weight).sum(1).astype(np.float32),
        anchor=anchors(cut, vertices),
        eyes={side: eye_axis(cut, vertices, f"{side}_eye") for side in ("left", "right")},
        nearest=(nearest[0], nearest[1]),
    )


def _lid_margins(cut: HeadCut, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finely sampled front edges of both upper and both lower lids, [K, 3] each, and the lid margin [V].

    The skin turns in at the lids: its edge against the socket lies 5 mm behind the third ring of vertices around it,
    the edge that one sees. The margin is 1 at the socket and 0 from that ring on.
    """
    part = parts(cut, vertices)
    corners = anchors(cut, vertices)
    inner, outer = corners["eye_inner"], corners["eye_outer"]
    skin = cut.faces[part["skin"]]
    sockets = cut.faces[part["left_socket"] | part["right_socket"]]
    level = np.full(len(vertices), _LID_RING + 1)
    level[sockets] = 0
    for ring in range(1, _LID_RING + 1):
        reached = np.unique(skin[(level[skin] == ring - 1).any(1)])
        level[reached] = np.minimum(level[reached], ring)
    edges = np.unique(np.sort(skin[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    edges = edges[(level[edges] == _LID_RING).all(1)]
    t = np.linspace(0, 1, 16)[:, None, None]
    rim = (vertices[edges[:, 0]] * (1 - t) + vertices[edges[:, 1]] * t).reshape(-1, 3)
    line = np.interp(np.abs(rim[:, 0]), [inner[0], outer[0]], [inner[1], outer[1]])
    return rim[rim[:, 1] >= line], rim[rim[:, 1] < line], np.clip(1 - level / _LID_RING, 0, 1)


def _cover(uv: np.ndarray, uv_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangle [R, R] (−1: none) and barycentrics [R, R, 3] at texel centres; row 0 at v = 1."""
    size = TEXTURE_SIZE
    at = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1).astype(np.float64) * size
    triangle = np.full((size, size), -1)
    barycentric = np.zeros((size, size, 3))
    for number, (a, b, c) in enumerate(at[uv_faces]):
        low = np.floor(np.minimum(np.minimum(a, b), c) - 0.5).astype(int).clip(0)
        high = np.ceil(np.maximum(np.maximum(a, b), c) + 0.5).astype(int).clip(max=size)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        second = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
        third = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
        weight = np.stack([1 - second - third, second, third], axis=-1)
        inside = weight.min(-1) >= 0
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        triangle[window] = np.where(inside, number, triangle[window])
        barycentric[window] = np.where(inside[..., None], weight, barycentric[window])
    return triangle, barycentric
