"""UV layout of OpenHead: one skin chart cut down the back of the head, eyes and mouth in charts of their own.

The skin chart is flattened anew, mirror-symmetric, with the face given more texels per millimetre than the skull.
The mouth cavity, the sockets, tongue and teeth keep MakeHuman's charts; the eyes are mapped around their axis.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.flatten import boundary_loops, minimise_distortion, tutte

TEXTURE_SIZE = 184
"""Texels per side of the albedo maps; fifty int8 modes at this size leave room for the geometry in a 16-MB file."""
_PADDING = 1.6  # texels left free around every chart
_EYE_POWER = 0.6
_STRIP = {  # the small charts in the strip above the skin: left edge, width, height in texels
    "left_eye_front": (122, 29, 29),
    "right_eye_front": (33, 29, 29),
    "left_eye_back": (172, 11, 11),
    "right_eye_back": (1, 11, 11),
    "left_socket": (152, 19, 25),
    "right_socket": (13, 19, 25),
    "mouth": (77, 30, 29),
    "tongue": (63, 13, 29),
    "upper_teeth": (108, 13, 29),
    "lower_teeth": (172, 11, 17),
}


def layout(cut: HeadCut, vertices: np.ndarray, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole layout.

    Args:
        vertices: [V, 3] neutral head, metres.  density: [V] wanted texels per metre on the skin, relative.
    Returns:
        uv [T, 2] in [0, 1] (u right = the subject's left, v up) and uv_faces [F, 3].
    """
    part = parts(cut, vertices)
    uv = np.zeros((3 * len(cut.faces), 2))  # one per corner first, joined at the end
    corner = np.arange(3 * len(cut.faces)).reshape(-1, 3)

    skin_uv, skin_faces, skin_numbers = flatten_skin(cut, vertices, part["skin"], density)
    size = TEXTURE_SIZE
    low, high = skin_uv.min(0), skin_uv.max(0)
    scale = min((size - 2 * _PADDING) / (high - low)[0], (size - 33 - 2 * _PADDING) / (high - low)[1])
    offset = np.array([size / 2, _PADDING]) - np.array([0.0, low[1]]) * scale
    uv[corner[skin_numbers]] = (skin_uv * scale + offset)[skin_faces]

    for name, (left, width, height) in _STRIP.items():
        if name.endswith(("front", "back")):
            chosen, chart = _eye_chart(cut, vertices, name)
        else:
            chosen = np.flatnonzero(part[name])
            chart = cut.uv[cut.uv_faces[chosen]].astype(np.float64)
            if "teeth" in name:  # MakeHuman lays the rows of teeth on their side
                chart = chart[..., ::-1] * [1, -1]
        box = np.array([width, height]) - 2 * _PADDING
        low, high = chart.reshape(-1, 2).min(0), chart.reshape(-1, 2).max(0)
        scale = (box / (high - low)).min()
        top = size - height if name != "lower_teeth" else size - 11 - height
        middle = np.array([left + width / 2, top + height / 2])
        uv[corner[chosen]] = (chart - (low + high) / 2) * scale + middle

    # corners of one vertex at one place are one texture coordinate
    key = np.concatenate([cut.faces.reshape(-1, 1), np.round(uv * 1e5).astype(np.int64)], axis=1)
    _, first, joined = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return (uv[first] / size).astype(np.float32), joined.reshape(-1, 3).astype(np.int32)


def charts(cut: HeadCut) -> np.ndarray:
    """[F] number of the connected piece of MakeHuman's layout that each triangle belongs to."""
    f = cut.uv_faces
    links = coo_matrix((np.ones(2 * len(f)), (f[:, [0, 1]].ravel(), f[:, [1, 2]].ravel())), (len(cut.uv),) * 2)
    return connected_components(links, directed=False)[1][f[:, 0]]


def parts(cut: HeadCut, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Faces [F] bool of each part: skin, mouth (cavity), tongue, upper/lower_teeth, left/right_socket, left/right_eye.

    MakeHuman's body skin runs on into the mouth and the eye sockets; its layout has charts of their own for them.
    """
    result = {name: cut.face_parts == k for k, name in enumerate(cut.part_names)}
    number = charts(cut)
    mouth, left, right = (np.zeros(len(cut.faces), bool) for _ in range(3))
    for k in np.unique(number[result["skin"]]):
        chart = number == k
        u, v = cut.uv[cut.uv_faces[chart]].reshape(-1, 2).mean(0)
        if u > 0.7 and v < 0.14:
            mouth |= chart
        elif u < 0.16 and 0.5 < v < 0.66:
            if vertices[cut.faces[chart]][..., 0].mean() > 0:
                left |= chart
            else:
                right |= chart
    result |= {"mouth": mouth, "left_socket": left, "right_socket": right}
    result["skin"] = result["skin"] & ~(mouth | left | right)
    return result


def eye_axis(cut: HeadCut, vertices: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre [3], unit axis through the pupil [3] and radius (metres) of 'left_eye' or 'right_eye'.

    The eyes look straight ahead at rest; MakeHuman's eyeball is a plain sphere and has no pole of its own.
    """
    own = vertices[cut.part(name)]
    centre = (own.min(0) + own.max(0)) / 2
    return centre, np.array([0.0, 0.0, 1.0]), float(np.linalg.norm(own - centre, axis=1).mean())


def _eye_chart(cut: HeadCut, vertices: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Faces of the front or back half of an eye and their chart [G, 3, 2] around the optical axis.

    The radius grows as a power of the angle below 1, which gives the iris more texels than an equidistant map.
    """
    eye, half = name.rsplit("_", 1)
    centre, axis, _ = eye_axis(cut, vertices, eye)
    faces = np.flatnonzero(cut.face_parts == cut.part_names.index(eye))
    direction = vertices[cut.faces[faces]] - centre
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    front = (direction @ axis).mean(1) > 0
    faces, direction = (faces[front], direction[front]) if half == "front" else (faces[~front], direction[~front])
    polar = np.arccos(np.clip((direction @ axis) * (1 if half == "front" else -1), -1, 1)) / (np.pi / 2)
    right = np.cross([0.0, 1.0, 0.0], axis)
    right /= np.linalg.norm(right)
    up = np.cross(axis, right)
    around = np.arctan2(direction @ up, (direction @ right) * (1 if half == "front" else -1))
    return faces, polar[..., None] ** _EYE_POWER * np.stack([np.cos(around), np.sin(around)], axis=-1)


def flatten_skin(
    cut: HeadCut, vertices: np.ndarray, skin: np.ndarray, density: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirror-symmetric chart of the skin, cut along the midline from the crown down the back.

    Args:
        skin: [F] bool.  density: [V] wanted texels per metre, relative.
    Returns:
        uv [T, 2] (u = 0 is the front midline, +u the subject's left), faces [G, 3] into uv, and the numbers [G] of
        those faces in the head. Units: metres × density.
    """
    x = vertices[:, 0]
    numbers = np.flatnonzero(skin)
    half_numbers = numbers[x[cut.faces[numbers]].mean(1) > 0]
    used, local = np.unique(cut.faces[half_numbers], return_inverse=True)
    local = local.reshape(-1, 3)
    points, density = vertices[used], density[used]
    midline = cut.mirror[used] == used

    loops = boundary_loops(local)
    outer = next(loop for loop in loops if midline[loop].sum() > 4)
    filled = local
    for loop in loops:
        if loop is not outer:  # the eye: a fan that keeps the lids apart
            filled = np.concatenate([filled, _fan(loop, np.roll(loop, -1), len(points))])
            points = np.concatenate([points, points[loop].mean(0, keepdims=True)])
            density = np.append(density, density[loop].mean())
    # the mouth's arc leaves the midline in front: a fan too, a little open, or the lips would overlap
    arcs = _arcs_off_midline(outer, midline)
    mouth = max(arcs, key=lambda arc: float(points[arc][:, 2].mean()))
    centre = len(points)
    filled = np.concatenate([filled, _fan(mouth[:-1], mouth[1:], centre)])
    density = np.append(density, density[mouth].mean())
    points = np.concatenate([points, points[mouth].mean(0, keepdims=True) * [[0, 1, 1]]])
    count = len(points)
    outer = np.roll(outer, -int(np.flatnonzero(outer == mouth[0])[0]))
    outer = np.concatenate([[mouth[0], centre], outer[len(mouth) - 1 :]])
    on_line = np.zeros(count, bool)
    on_line[: len(used)] = midline
    on_line[centre] = True

    # the outer loop starts at the crown: down the front on a straight line, round the neck and up the back on an arc
    crown = outer[np.argmax(np.where(on_line[outer], points[outer][:, 1] - points[outer][:, 2], -np.inf))]
    outer = np.roll(outer, -int(np.flatnonzero(outer == crown)[0]))
    bottom = int(np.flatnonzero(~on_line[outer])[0])  # first neck vertex beside the midline, seen from the crown
    last_mid = int(np.flatnonzero(~on_line[outer])[-1])
    if points[outer[:bottom]][:, 2].max() < points[outer[last_mid:]][:, 2].max():  # went down the back first
        outer = np.roll(outer[::-1], 1)
        bottom = int(np.flatnonzero(~on_line[outer])[0])
    front, rest = outer[:bottom], np.append(outer[bottom - 1 :], outer[0])
    along = np.linspace(1, -1, len(front))
    angle = np.linspace(-np.pi / 2, np.pi / 2, len(rest))
    border = np.concatenate([front, rest[1:-1]])
    border_uv = np.concatenate([np.stack([0 * along, along], 1), np.stack([np.cos(angle), np.sin(angle)], 1)[1:-1]])
    uv = tutte(filled, count, border, border_uv)

    rest_shape = _rest_triangles(points, filled, density)
    scale = np.sqrt(_area(rest_shape).sum() / _area(uv[filled]).sum())
    uv = minimise_distortion(uv * scale, filled, rest_shape, on_axis=front)[: len(used)]
    axis = front[front != centre]

    # the other side by the mirror map; the front midline is shared, the back midline is the seam
    on_axis = np.zeros(len(used), bool)
    on_axis[axis] = True
    partner = np.where(on_axis, np.arange(len(used)), len(used) + np.cumsum(~on_axis) - 1)
    mirrored = uv[~on_axis] * [-1, 1]
    lookup = np.full(len(vertices), -1)
    lookup[cut.mirror[used]] = partner  # vertex of the right side (or midline) → its uv
    other_numbers = np.setdiff1d(numbers, half_numbers)
    other = lookup[cut.faces[other_numbers]]
    return (
        np.concatenate([uv, mirrored]),
        np.concatenate([local, other]),
        np.concatenate([half_numbers, other_numbers]),
    )


def _fan(start: np.ndarray, stop: np.ndarray, centre: int) -> np.ndarray:
    """Triangles that close a hole: boundary edges start → stop, seen from the other side, with a new centre."""
    return np.stack([stop, start, np.full(len(start), centre)], axis=1)


def _arcs_off_midline(loop: np.ndarray, midline: np.ndarray) -> list[np.ndarray]:
    """Stretches of a loop that leave the midline, with the midline vertices at both ends."""
    loop = np.roll(loop, -int(np.flatnonzero(midline[loop])[0]))
    closed = np.append(loop, loop[0])
    ends = np.flatnonzero(midline[closed])
    return [closed[a : b + 1] for a, b in pairwise(ends) if b - a > 1]


def _rest_triangles(vertices: np.ndarray, faces: np.ndarray, density: np.ndarray) -> np.ndarray:
    """[F, 3, 2]: each triangle laid flat, scaled by the mean density of its corners."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    ab, ac = b - a, c - a
    length = np.linalg.norm(ab, axis=1)
    along = (ab * ac).sum(1) / length
    height = np.sqrt(np.maximum((ac**2).sum(1) - along**2, (0.1 * length) ** 2))
    flat = np.zeros((len(faces), 3, 2))
    flat[:, 1, 0], flat[:, 2, 0], flat[:, 2, 1] = length, along, height
    return flat * density[faces].mean(1)[:, None, None]


def _area(triangles: np.ndarray) -> np.ndarray:
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
