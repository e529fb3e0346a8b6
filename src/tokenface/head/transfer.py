"""Transfer between head models over a registration: albedo, regions, the 468-point mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from tokenface.errors import HeadModelError
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head.data import HeadData
from tokenface.head.registration import NORMAL_WEIGHT, Layers, register


def cover(uv: np.ndarray, uv_faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For every texel centre of a size × size map (row 0 at v = 1) its triangle and place in it.

    Args:
        uv: [T, 2] in [0, 1].
        uv_faces: [F, 3].
    Returns:
        [R, R] int32 triangles, −1 where no triangle lies; [R, R, 3] float32 barycentrics.
    """
    triangle = np.full((size, size), -1, dtype=np.int32)
    barycentric = np.zeros((size, size, 3), dtype=np.float32)
    corners = np.asarray(uv, dtype=np.float64)[uv_faces] * [size, -size] + [0, size]  # x right, y down
    low = np.floor(corners.min(1) - 0.5).astype(int).clip(0, size)
    high = np.ceil(corners.max(1) + 0.5).astype(int).clip(0, size)
    for number, (a, b, c) in enumerate(corners):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(area) < 1e-12:
            continue
        columns = np.arange(low[number, 0], high[number, 0]) + 0.5
        rows = (np.arange(low[number, 1], high[number, 1]) + 0.5)[:, None]
        u = ((b[0] - columns) * (c[1] - rows) - (c[0] - columns) * (b[1] - rows)) / area
        v = ((c[0] - columns) * (a[1] - rows) - (a[0] - columns) * (c[1] - rows)) / area
        w = 1 - u - v
        inside = (u >= -1e-9) & (v >= -1e-9) & (w >= -1e-9)
        if inside.any():
            block = slice(low[number, 1], high[number, 1]), slice(low[number, 0], high[number, 0])
            triangle[block][inside] = number
            barycentric[block][inside] = np.stack([u, v, w], -1)[inside]
    return triangle, barycentric


def nearest_covered(covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column, [R, R] each, of the nearest covered texel of every texel: padding so that no seam shows."""
    rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return rows, columns


TEXTURE_SIZE = 320
NEIGHBOURS = 4
REGIONS = (
    *("face", "lips", "nose", "forehead", "chin", "scalp", "neck", "ears", "brows", "cheeks", "eye_region"),
    *(f"{side}_{name}" for side in ("left", "right") for name in ("eye_region", "ear", "brow", "cheek")),
)
"""Those of OpenHead that lie on the skin and mean the same on any head."""


def dress(target: HeadData, source: HeadData, size: int = TEXTURE_SIZE) -> HeadData:
    """A copy of the target with all that the source has and the target lacks: albedo, regions, 468 points.

    Raises:
        HeadModelError: the two heads cannot be laid onto each other.
    """
    moved = register(target, source)
    if not np.isfinite(moved).all():
        raise HeadModelError(f"'{target.name}' cannot be laid onto '{source.name}'; are its landmarks right?")
    regions = {k: v for k, v in transfer_regions(source, target, moved).items() if k not in target.regions}
    carried = [f"regions {', '.join(sorted(regions))}"] if regions else []
    result = replace(target, regions={**target.regions, **regions})
    if target.albedo_mean is None and source.albedo_mean is not None:
        result = transfer_albedo(source, result, moved, size)
        carried.append("albedo")
    if target.mesh468_faces is None and source.mesh468_faces is not None:
        result = transfer_mesh468(source, result, moved)
        carried.append("468-point mesh")
    if carried:
        origin = f"from {source.name} ({source.licence}): {'; '.join(carried)}"
        result = replace(result, facts={**target.facts, "carried over": origin})
    return result


def transfer_albedo(source: HeadData, target: HeadData, moved: np.ndarray, size: int = TEXTURE_SIZE) -> HeadData:
    """Paint the target with the source's mean albedo and every mode of its basis.

    Every texel of the target takes the weighted mean of the nearest texels of the source in space, of the same layer
    (skin, teeth, mouth, each eye) and facing the same way.

    Args:
        moved: [V, 3] the target's vertices on the source, from `register`.
        size: side of the new texture.
    """
    if source.albedo_mean is None or source.albedo_basis is None:
        raise HeadModelError(f"'{source.name}' has no albedo to carry over")
    canvas = _Texels.of(target, moved, size)
    palette = _Texels.of(source, source.template.astype(np.float64), source.albedo_mean.shape[0])
    neighbours, weights = _nearest_texels(canvas, palette)
    rows, columns = nearest_covered(canvas.covered)

    def painted(image: np.ndarray) -> np.ndarray:
        colours = image[palette.rows, palette.columns].astype(np.float32)
        full = np.zeros((size, size, image.shape[-1]), np.float32)
        full[canvas.rows, canvas.columns] = (colours[neighbours] * weights[..., None]).sum(1)
        return full[rows, columns]

    basis = np.stack([_like(painted(mode), source.albedo_basis.dtype) for mode in source.albedo_basis])
    return replace(
        target, albedo_mean=painted(source.albedo_mean), albedo_basis=basis, albedo_scale=source.albedo_scale
    )


def _like(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.round(image).clip(-127, 127).astype(dtype) if dtype.kind == "i" else image.astype(dtype)


class _Texels:
    """The covered texels of one head's texture: where they lie on the head, which way they face, on which layer."""

    def __init__(self, rows, columns, points, normals, layer, covered):
        self.rows, self.columns = rows, columns  # [N]
        self.points, self.normals = points, normals  # [N, 3]
        self.layer = layer  # [N] index into Layers
        self.covered = covered  # [R, R] bool

    @staticmethod
    def of(head: HeadData, vertices: np.ndarray, size: int) -> _Texels:
        triangle, barycentric = cover(head.uv, head.uv_faces, size)
        rows, columns = np.nonzero(triangle >= 0)
        corners = head.faces[triangle[rows, columns]]
        weights = barycentric[rows, columns].astype(np.float64)
        points = np.einsum("nc,ncd->nd", weights, vertices[corners])
        normals = np.einsum("nc,ncd->nd", weights, mesh_normals(vertices, head.faces)[corners])
        layers = np.stack([inside for _, inside in Layers.of(head).items()], axis=1).argmax(1)
        layer = np.sort(layers[corners], axis=1)[:, 1]  # the majority of three
        normals[layer < 2] = 0  # an iris is a hollow behind the cornea: on eyes the place alone counts
        return _Texels(rows, columns, points, normals, layer, triangle >= 0)


def _nearest_texels(canvas: _Texels, palette: _Texels) -> tuple[np.ndarray, np.ndarray]:
    """[N, K] palette texels of each canvas texel and their weights."""
    neighbours = np.zeros((len(canvas.rows), NEIGHBOURS), dtype=np.int64)
    weights = np.zeros((len(canvas.rows), NEIGHBOURS), dtype=np.float32)
    for layer in np.unique(canvas.layer):
        wanted = np.flatnonzero(canvas.layer == layer)
        offered = np.flatnonzero(palette.layer == layer)
        if len(offered) < NEIGHBOURS:  # a head without teeth: whatever is nearest
            offered = np.arange(len(palette.rows))
        key = np.c_[palette.points[offered], NORMAL_WEIGHT * palette.normals[offered]]
        distance, nearest = cKDTree(key).query(
            np.c_[canvas.points[wanted], NORMAL_WEIGHT * canvas.normals[wanted]], k=NEIGHBOURS
        )
        closeness = 1 / (distance + 2e-4) ** 2
        neighbours[wanted] = offered[nearest]
        weights[wanted] = closeness / closeness.sum(1, keepdims=True)
    return neighbours, weights


def transfer_regions(source: HeadData, target: HeadData, moved: np.ndarray) -> dict[str, np.ndarray]:
    """The source's skin regions as vertices of the target: what the nearest places on the source's skin belong to."""
    names = [name for name in REGIONS if name in source.regions]
    if not names:
        return {}
    member = np.zeros((len(source.template), len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        member[source.regions[name], column] = 1
    skin, source_skin = Layers.of(target).skin, Layers.of(source).skin
    anchor = np.flatnonzero(source_skin)
    points = source.template.astype(np.float64)
    normals = mesh_normals(points, source.faces)
    tree = cKDTree(np.c_[points[anchor], NORMAL_WEIGHT * normals[anchor]])
    wanted = np.flatnonzero(skin)
    own = mesh_normals(moved, target.faces)
    distance, nearest = tree.query(np.c_[moved[wanted], NORMAL_WEIGHT * own[wanted]], k=NEIGHBOURS)
    closeness = 1 / (distance + 5e-4) ** 2
    share = (member[anchor[nearest]] * closeness[..., None]).sum(1) / closeness.sum(1, keepdims=True)
    inside = share > 0.5
    inside |= inside[_mirrored_rows(target, wanted)] & (share > 0.35)  # a symmetric head keeps symmetric regions
    regions = {name: wanted[inside[:, column]].astype(np.int32) for column, name in enumerate(names)}
    if "face" in regions:  # OpenHead counts the eyes as face
        eyes = np.flatnonzero(Layers.of(target).left_eye | Layers.of(target).right_eye)
        regions["face"] = np.union1d(regions["face"], eyes).astype(np.int32)
    return {name: vertices for name, vertices in regions.items() if len(vertices)}


def _mirrored_rows(head: HeadData, vertices: np.ndarray) -> np.ndarray:
    """Rows of the mirror partners within `vertices`; a vertex whose partner is not among them stays itself."""
    row = np.full(len(head.template), -1)
    row[vertices] = np.arange(len(vertices))
    partner = row[head.mirror[vertices]]
    return np.where(partner >= 0, partner, np.arange(len(vertices)))


def transfer_mesh468(source: HeadData, target: HeadData, moved: np.ndarray) -> HeadData:
    """The source's 468 points as places on the target's skin: the closest points of the laid-on surface."""
    if source.mesh468_faces is None or source.mesh468_barycentrics is None:
        raise HeadModelError(f"'{source.name}' has no 468-point correspondence to carry over")
    valid = np.flatnonzero(source.mesh468_faces >= 0)
    corners = source.template[source.faces[source.mesh468_faces[valid]]].astype(np.float64)
    points = np.einsum("kc,kcd->kd", source.mesh468_barycentrics[valid].astype(np.float64), corners)
    on_eye = _triangles_within(source, "left_eye", "right_eye")[source.mesh468_faces[valid]]
    faces, weights = np.full(468, -1, np.int32), np.zeros((468, 3), np.float32)
    for chosen, layers in ((~on_eye, ("skin",)), (on_eye, ("left_eye", "right_eye"))):
        triangles = np.flatnonzero(_triangles_within(target, *layers))
        if chosen.any() and len(triangles):
            found, places = closest_on_surface(points[chosen], moved, target.faces[triangles])
            faces[valid[chosen]], weights[valid[chosen]] = triangles[found], places
    return replace(target, mesh468_faces=faces, mesh468_barycentrics=weights)


def _triangles_within(head: HeadData, *layers: str) -> np.ndarray:
    inside = np.any([mask for name, mask in Layers.of(head).items() if name in layers], axis=0)
    return inside[head.faces].all(1)


def closest_on_surface(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, candidates: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle [K] and barycentrics [K, 3] of the closest point of a surface of small, even triangles."""
    corners = vertices[faces]
    count = min(candidates, len(faces))
    nearest = cKDTree(corners.mean(1)).query(points, k=count)[1].reshape(len(points), count)
    flat = nearest.ravel()
    closest = trimesh.triangles.closest_point(corners[flat], np.repeat(points, count, axis=0))
    distance = np.linalg.norm(closest.reshape(len(points), count, 3) - points[:, None], axis=2)
    best = distance.argmin(1)
    chosen = nearest[np.arange(len(points)), best]
    place = closest.reshape(len(points), count, 3)[np.arange(len(points)), best]
    weights = trimesh.triangles.points_to_barycentric(corners[chosen], place).clip(0, 1)
    return chosen, weights / weights.sum(1, keepdims=True)
