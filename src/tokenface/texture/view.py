"""Texels observed in one photo: colour and weight."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.smoothstep import smoothstep
from tokenface.images.srgb import bytes_to_linear
from tokenface.parsing.parser import Regions, parse
from tokenface.parsing.regions import EYES, HAIR, SKIN
from tokenface.render.raster_arrays import rasterize_arrays
from tokenface.texture.layout import Texels, surface_kinds
from tokenface.texture.seen import SeenFace

DEPTH_MAP = 512
SLACK = 0.004
"""Metres that a texel may lie behind the nearest surface and still count as seen."""
FACING = (0.2, 0.6)
"""Cosine of the angle to the viewer below which a texel takes nothing from the photo, and from which all."""
OUTLINE = (0.002, 0.008)
"""Metres from the head's outline on the photo within which nothing is taken, and from which all: the outline is never
quite right."""
SCALP = (0.006, 0.02)
"""The same on the scalp, where the photo's background is never far."""
OPENINGS = (0.0008, 0.0022)
"""Metres, the same, from a visible eyeball or the mouth's inside: neither may be smeared over lids and lips."""
PIXELS = 1.5
"""Of the photo, which is as near to an opening as its colours are sure not to be blurred with it."""
OWN = (0.25, 0.6)
"""Probability that a pixel shows what a texel is of, below which nothing is taken, and from which all."""
FEATHER = 6.0
"""Texels of a 512-texel map over which photo and fill blend."""
FEATHER_MAP = 512


@dataclass(frozen=True, eq=False)
class View:
    """N texels on one photo. colours: [N, 3] linear light.  share: [N] in [0, 1], how far the texel is taken from the
    photo.  facing: [N] cosine of the angle to the viewer.  normals: [N, 3] in the photo's axes, y up."""

    colours: np.ndarray
    share: np.ndarray
    facing: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True, eq=False)
class _Depth:
    """The head drawn from the photo's camera, in a square of its own. nearest: [P, P] metres, inf outside.
    inside, opening: [P, P] metres to the outline and to the nearest eye or mouth pixel."""

    low: np.ndarray
    side: float
    nearest: np.ndarray
    inside: np.ndarray
    opening: np.ndarray

    def pixel(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Photo pixels [N, 2] → row and column."""
        place = ((points - self.low) / self.side * DEPTH_MAP).astype(np.int64).clip(0, DEPTH_MAP - 1)
        return place[:, 1], place[:, 0]


def view_of(face: SeenFace, photo: np.ndarray, texels: Texels, ears: bool = False) -> tuple[View, View]:
    """A photo's texels as they are, and as the other side of the head shows them.

    Args:
        photo: [H, W, 3] uint8 RGB.  ears: they may be taken, too: seldom right where hair hangs over them.
    """
    depth, facing = _depth(face), mesh_normals(face.vertices, face.faces) @ face.camera.rotation.T.astype(np.float32)
    regions = parse(photo, face.landmarks, face.camera.angles[2])
    own, other = (_look(face, photo, texels, depth, facing, regions, ears, mirrored) for mirrored in (False, True))
    return own, other


def feathered(share: np.ndarray, texels: Texels) -> np.ndarray:
    """[N] blended into the taken side only: colours just outside of it are those of what stood in front."""
    size = min(texels.size, FEATHER_MAP)
    image = cv2.resize(texels.map(share), (size, size), interpolation=cv2.INTER_AREA)
    there = cv2.resize(texels.covered.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    # texels beyond the border of the layout are not unseen
    image = np.where(there > 0.02, image / there.clip(0.02), 1)
    shrunk = cv2.erode(image, np.ones((5, 5)))
    soft = cv2.GaussianBlur(shrunk * there, (0, 0), FEATHER * size / FEATHER_MAP)
    soft = soft / cv2.GaussianBlur(there, (0, 0), FEATHER * size / FEATHER_MAP).clip(1e-3)
    soft = np.minimum(image, smoothstep(soft, 0.25, 1.0))
    full = cv2.resize(soft, (texels.size, texels.size), interpolation=cv2.INTER_LINEAR)[texels.covered]
    return np.minimum(full, share).clip(0, 1)


def _look(
    face: SeenFace,
    photo: np.ndarray,
    texels: Texels,
    depth: _Depth,
    facing: np.ndarray,
    regions: Regions,
    ears: bool,
    mirrored: bool,
) -> View:
    """facing: [V, 3] normals, camera space."""
    points = texels.at(face.vertices, mirrored).astype(np.float64)
    normals = texels.at(facing, mirrored)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
    places = face.camera.project(points)
    row, column = depth.pixel(places)
    share = (face.camera.depth(points) <= depth.nearest[row, column] + SLACK) & (texels.kinds["skin"] > 0.99)
    height, width = photo.shape[:2]
    share &= ((places > 1) & (places < [width - 1, height - 1])).all(axis=1)
    share = share * smoothstep(normals[:, 2], *FACING)
    blur = PIXELS / face.camera.pixels_per_metre
    near, far = np.maximum(OPENINGS, (blur, 2 * blur))
    inside = depth.inside[row, column]
    share *= np.where(texels.kinds["scalp"] > 0.5, smoothstep(inside, *SCALP), smoothstep(inside, *OUTLINE))
    share *= smoothstep(depth.opening[row, column], near, far)
    share *= smoothstep(_own(regions.at(places), texels), *OWN)
    if not ears:
        share *= 1 - texels.kinds["ears"]
    return View(_sampled(photo, places, texels), share.astype(np.float32), normals[:, 2], normals)


def _own(shown: np.ndarray, texels: Texels) -> np.ndarray:
    """[N] probability that the photo shows the head there, and nothing before it. shown: [N, REGIONS].

    Hair counts where hair grows, eyes have a border of their own; what an open mouth shows is no lip.
    """
    kinds = texels.kinds
    hairy = np.maximum.reduce([kinds["scalp"], kinds["beard"], kinds["brows"]])
    return shown[:, SKIN] + shown[:, EYES] + hairy * shown[:, HAIR]


def colours_of(face: SeenFace, photo: np.ndarray, texels: Texels, mirrored: bool = False) -> np.ndarray:
    """[N, 3] linear light of the photo at each texel, seen or not; mirrored: at its place on the other side."""
    return _sampled(photo, face.camera.project(texels.at(face.vertices, mirrored)), texels)


def _sampled(photo: np.ndarray, places: np.ndarray, texels: Texels) -> np.ndarray:
    grid = texels.map((places - 0.5).astype(np.float32))  # OpenCV counts from pixel centres
    sampled = cv2.remap(photo, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return bytes_to_linear(sampled[texels.covered])


def _depth(face: SeenFace) -> _Depth:
    camera = face.camera
    projected = camera.project(face.vertices)
    low, side = projected.min(axis=0), float(np.ptp(projected, axis=0).max()) * 1.01
    ndc = (projected - low) * (2 / side) - 1
    vertices = np.column_stack([ndc, camera.depth(face.vertices)])
    fragments = rasterize_arrays(vertices[None], face.faces, DEPTH_MAP, DEPTH_MAP)
    triangle, drawn = fragments.triangle_ids[0], fragments.mask[0]
    # the nearest of the pixels around, so that the surface's own slope does not hide it
    farthest = cv2.dilate(fragments.depth(-1e3)[0], np.ones((3, 3)))
    kinds = surface_kinds(face.head.data)
    hollow = (kinds["eyes"] | kinds["mouth"])[np.asarray(face.faces)].any(1)
    openings = drawn & hollow[triangle.clip(0)]
    metres = side / DEPTH_MAP / camera.pixels_per_metre

    def distance(free: np.ndarray, border: int) -> np.ndarray:
        far = cv2.distanceTransform(cv2.copyMakeBorder(free.astype(np.uint8), 1, 1, 1, 1, 0, value=border), 2, 3)
        return far[1:-1, 1:-1] * metres

    return _Depth(low, side, farthest, distance(drawn, 0), distance(~openings, 1))
