"""Photos as a texture: each texel of the head's layout takes what a photo shows of it, or of the face's other side.

Colours are logarithms of their ratio to the predicted albedo under the predicted light. The slow part of that ratio is
spread over the whole head, so that where nothing was seen the model's skin has the photo's tone and no seam shows; the
rest is detail, taken from the photo itself, then from further photos, then from mirror images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch

from tokenface.geometry.normals import mesh_normals
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel
from tokenface.head.registration import Layers
from tokenface.head.texel_cover import cover, nearest_covered
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import rasterize
from tokenface.render.shading import shade

SIZE = 512
DEPTH_MAP = 512
SLACK = 0.004
"""Metres that a texel may lie behind the nearest surface and still count as seen."""
FACING = (0.2, 0.7)
"""Cosine of the angle to the viewer below which a texel takes nothing from the photo, and from which all."""
FEATHER = 6.0
"""Texels of a 512-texel map over which photo and model blend."""
SLOW = ((0.03, 1.0), (0.1, 0.03), (0.3, 0.001))
"""Widths, over the map's side, and weights of the averages that make the slow part."""
DARKEST = 0.02
"""Of sRGB: below, ratios say nothing."""
STRANGE = (0.5, 1.0)
"""Logarithm of a colour ratio, from the face's own median, at which the rim of the face begins to look like hair or
background, and from which it surely is."""
RIM = (0.85, 0.55)
"""Forward component of the neutral head's normal between which a place counts as the middle and as the rim."""
FEATURES = ("nose", "lips", "brows", "chin")
"""Never the rim: dark and steep places of their own."""
OUTLINE = (0.004, 0.012)
"""Metres from the head's outline on the photo within which a place is rim as well: the outline is never quite right."""
SHADOW = 0.4
"""Of the light's median: what is darker than that is taken for a weakness of the predicted light."""


class SeenFace(Protocol):
    """What is needed of a face, as `Face` has it."""

    @property
    def head(self) -> HeadModel: ...
    @property
    def parameters(self) -> FaceParameters: ...
    @property
    def camera(self) -> FaceCamera: ...
    @property
    def vertices(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def albedo(self) -> np.ndarray: ...


def photo_texture(
    face: SeenFace,
    photo: np.ndarray,
    others: Sequence[tuple[SeenFace, np.ndarray]] = (),
    *,
    size: int = SIZE,
    delight: bool = False,
    whole_head: bool = False,
) -> np.ndarray:
    """The skin of a face as its photo shows it.

    Args:
        face: whose tone and light are kept.  photo: [H, W, 3] uint8 RGB that it was found in.
        others: further faces of the same person with their photos; they show what the first does not.
        delight: without the predicted light, to be lit by a viewer; else light and all.
        whole_head: hair, ears and neck too, as far as the photo shows the head there; else they get the face's tone.
    Returns:
        [size, size, 3] uint8 sRGB, row 0 at v = 1.
    """
    texels = _Texels.of(face.head.data, size)
    first = _View.of(face, photo, texels, whole_head)
    albedo = _albedo(face, texels)
    views = [first, *(_View.of(*other, texels, whole_head) for other in others)]
    # what any photo shows comes before the mirror image of another side
    looks = [(view.share, view.ratio) for view in views]
    looks += [(view.mirrored_share, view.mirrored_ratio) for view in views]
    detail, left = np.zeros_like(albedo), np.ones(len(albedo))
    for share, ratio in looks:
        detail += (left * share)[:, None] * ratio
        left = left * (1 - share)
    if delight:  # as bright as the albedo: a photo's exposure says nothing of the skin
        base, tone = albedo, first.slow - first.exposure
    else:
        base, tone = albedo * first.light, first.slow
    colours = np.exp(np.log(base.clip(DARKEST)) + tone + detail)
    image = np.zeros((size, size, 3))
    image[texels.covered] = colours
    rows, columns = nearest_covered(texels.covered)
    return (image[rows, columns].clip(0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Texels:
    """N covered texels of a head's layout."""

    data: HeadData
    covered: np.ndarray  # [R, R] bool
    corners: np.ndarray  # [N, 3] vertices
    weights: np.ndarray  # [N, 3]
    skin: np.ndarray  # [N] bool
    mouth: np.ndarray  # [N] bool
    wanted: np.ndarray  # [N] in [0, 1]: 1 on the face, falling to 0 on scalp, ears and neck
    rim: np.ndarray  # [N] in [0, 1]: where hair and background get onto the face

    @staticmethod
    def of(data: HeadData, size: int) -> _Texels:
        triangle, barycentric = cover(data.uv, data.uv_faces, size)
        covered = triangle >= 0
        corners, weights = data.faces[triangle[covered]], barycentric[covered].astype(np.float64)
        layers = Layers.of(data)

        def on(values: np.ndarray) -> np.ndarray:
            return (values[corners].astype(np.float64) * weights).sum(1)

        forward = mesh_normals(data.template, data.faces)[:, 2]
        for region in FEATURES:
            forward[data.regions.get(region, np.empty(0, int))] = 1
        return _Texels(
            data,
            covered,
            corners,
            weights,
            on(layers.skin) > 0.5,
            on(layers.mouth | layers.teeth) > 0.5,
            on(_face_weight(data)),
            1 - _smoothstep(on(forward), RIM[1], RIM[0]),
        )

    def at(self, values: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """[V, C] at the vertices → [N, C]; mirrored: at the same place on the other side of the head."""
        corners = self.data.mirror[self.corners] if mirrored else self.corners
        return (values[corners] * self.weights[..., None]).sum(axis=1)

    def map(self, values: np.ndarray) -> np.ndarray:
        """[N, …] → [R, R, …] float32, zeros where no texel is."""
        image = np.zeros((*self.covered.shape, *values.shape[1:]), np.float32)
        image[self.covered] = values
        return image


@dataclass(frozen=True, eq=False)
class _View:
    """What one photo says of N texels.

    light: [N, 3] predicted.  slow: [N, 3] slow part of the logarithmic ratio.  exposure: its mean over the face.
    ratio: [N, 3] the rest of it.  share: [N] in [0, 1], how far the texel is seen; the same for the mirror image.
    """

    light: np.ndarray
    slow: np.ndarray
    exposure: float
    ratio: np.ndarray
    share: np.ndarray
    mirrored_ratio: np.ndarray
    mirrored_share: np.ndarray

    @staticmethod
    def of(face: SeenFace, photo: np.ndarray, texels: _Texels, whole_head: bool) -> _View:
        albedo = _albedo(face, texels)
        sides = []
        for mirrored in (False, True):
            light, colours, seen, outline = _look(face, photo, texels, mirrored)
            log = np.log(colours.clip(DARKEST)) - np.log((albedo * light).clip(DARKEST))
            sides.append((light, log.clip(-2.5, 2.5), seen, np.maximum(texels.rim, outline)))
        (light, log, seen, rim), (_, other, other_seen, other_rim) = sides
        sure = texels.skin & (seen > 0.9) & (texels.rim < 0.5) & (texels.wanted > 0.9)
        if sure.sum() < 100:  # hardly anything of the skin is seen
            sure = seen > 0.5
        middle = np.median(log[sure], axis=0) if sure.any() else np.zeros(3)
        shares, skins = [], []
        for values, visible, edge in ((log, seen, rim), (other, other_seen, other_rim)):
            share, strange = visible.copy(), _smoothstep(np.abs(values - middle).max(1), *STRANGE)
            if not whole_head:
                share *= texels.wanted * (1 - edge * strange)
            shares.append(_feathered(share, texels))
            skins.append(shares[-1] * texels.skin * (1 if whole_head else 1 - 0.98 * strange))
        slow = _slow_part(log, skins[0], middle, texels)
        # what is no skin takes the photo's brightness, not its tone
        slow[~texels.skin] = middle.mean()
        slow[texels.mouth] = np.clip(middle.mean(), -1.2, 0)
        other_slow = _slow_part(other, skins[1], middle, texels)
        # an eye's highlight and an open mouth belong to their own side
        exposure = float(middle.mean())
        return _View(light, slow, exposure, log - slow, shares[0], other - other_slow, shares[1] * texels.skin)


def _look(
    face: SeenFace, photo: np.ndarray, texels: _Texels, mirrored: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predicted light [N, 3], colours of the photo [N, 3], how far each texel is seen [N], and how near it is to the
    head's outline [N], 1 at it."""
    points = texels.at(face.vertices.astype(np.float64), mirrored)
    normals = texels.at(mesh_normals(face.vertices, face.faces), mirrored)
    normals = normals @ face.camera.rotation.T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
    visible, inside = _visible(face, points)
    seen = visible * _smoothstep(normals[:, 2], *FACING)
    places = face.camera.project(points)
    height, width = photo.shape[:2]
    seen *= ((places > 1) & (places < [width - 1, height - 1])).all(axis=1)
    grid = texels.map(places - 0.5)  # OpenCV counts from pixel centres
    sampled = cv2.remap(photo, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    white = torch.ones(1, 3, 1, len(points))
    light = shade(white, torch.from_numpy(normals[None, None].astype(np.float32)), face.parameters.light[None])
    level = light[0, :, 0].T.double().numpy()
    usual = np.median(level[seen > 0.5], axis=0) if (seen > 0.5).any() else np.ones(3)
    usual = usual.clip(0.1)
    return (
        level.clip(SHADOW * usual, usual / SHADOW),
        sampled[texels.covered] / 255.0,
        seen,
        1 - _smoothstep(inside, *OUTLINE),
    )


def _feathered(share: np.ndarray, texels: _Texels) -> np.ndarray:
    """Blended into the seen side only: colours just outside of what is seen are those of what stood in front."""
    image = texels.map(share)
    size = len(image)
    shrunk = cv2.erode(image, np.ones((5, 5)))
    soft = cv2.GaussianBlur(shrunk, (0, 0), FEATHER * size / SIZE)
    # texels beyond the border of the layout are not unseen
    there = cv2.GaussianBlur(texels.covered.astype(np.float32), (0, 0), FEATHER * size / SIZE)
    return np.minimum(image, soft / there.clip(1e-3)).clip(0, 1)[texels.covered].astype(np.float64)


def _slow_part(log: np.ndarray, weight: np.ndarray, middle: np.ndarray, texels: _Texels) -> np.ndarray:
    """[N, 3] averages of the ratio over what is seen, near ones first, coarser ones where nothing near is."""
    size = len(texels.covered)
    small = max(size // 4, 64)  # slow: a quarter of the map is enough
    total, over = np.zeros((small, small, 3), np.float32), np.zeros((small, small, 1), np.float32)
    values, weights = (
        cv2.resize(texels.map(array), (small, small), interpolation=cv2.INTER_AREA)
        for array in (log * weight[:, None], weight)
    )
    for width, importance in SLOW:
        total += importance * cv2.GaussianBlur(values, (0, 0), width * small)
        over += importance * cv2.GaussianBlur(weights, (0, 0), width * small)[..., None]
    total, over = total + 1e-4 * middle.astype(np.float32), over + 1e-4
    return cv2.resize(total / over, (size, size), interpolation=cv2.INTER_LINEAR)[texels.covered].astype(np.float64)


def _face_weight(data: HeadData) -> np.ndarray:
    """[V] in [0, 1]: the face, shrunk softly over a few rings of vertices."""
    inside = np.zeros(len(data.template))
    face = data.face_vertices()
    inside[slice(None) if face is None else face] = 1
    edges = np.concatenate([data.faces[:, [0, 1]], data.faces[:, [1, 2]], data.faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(both[:, 0], minlength=len(inside)).clip(1)
    soft = inside
    for _ in range(4):
        soft = np.bincount(both[:, 0], soft[both[:, 1]], len(inside)) / degree
    return _smoothstep(np.minimum(soft, inside), 0.4, 0.95)


def _albedo(face: SeenFace, texels: _Texels) -> np.ndarray:
    """[N, 3] predicted, sRGB in [0, 1]."""
    size = texels.covered.shape[::-1]
    return cv2.resize(face.albedo, size, interpolation=cv2.INTER_LINEAR)[texels.covered] / 255.0


def _visible(face: SeenFace, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N] 1 where nothing of the head is nearer to the viewer than the point; [N] metres to its outline."""
    camera = face.camera
    projected = camera.project(face.vertices)
    low, side = projected.min(axis=0), float(np.ptp(projected, axis=0).max()) * 1.01
    ndc = (projected - low) * (2 / side) - 1
    vertices = torch.from_numpy(np.column_stack([ndc, camera.depth(face.vertices)]).astype(np.float32))[None]
    faces = torch.from_numpy(np.array(face.faces, np.int64))
    fragments = rasterize(vertices, faces, DEPTH_MAP, DEPTH_MAP)
    nearest = torch.where(fragments.mask, fragments.depth, torch.inf)[0].numpy()
    # the nearest of the pixels around, so that the surface's own slope does not hide it
    farthest = cv2.dilate(np.where(np.isfinite(nearest), nearest, -1e3).astype(np.float32), np.ones((3, 3)))
    pixel = ((camera.project(points) - low) / side * DEPTH_MAP).astype(int).clip(0, DEPTH_MAP - 1)
    visible = camera.depth(points) <= farthest[pixel[:, 1], pixel[:, 0]] + SLACK
    metres = side / DEPTH_MAP / camera.pixels_per_metre
    inside = cv2.distanceTransform(np.pad(np.isfinite(nearest), 1).astype(np.uint8), cv2.DIST_L2, 3) * metres
    return visible.astype(np.float64), inside[pixel[:, 1] + 1, pixel[:, 0] + 1].astype(np.float64)


def _smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
