"""The photo as a texture: every texel of the head's layout takes the colour of the photo where the photo shows it."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from tokenface.formats.mesh import vertex_normals
from tokenface.head.texel_cover import cover, nearest_covered
from tokenface.inference.face import Face
from tokenface.render.rasterizer import rasterize
from tokenface.render.shading import shade

SIZE = 512
DEPTH_MAP = 512
SLACK = 0.004
"""Metres that a texel may lie behind the nearest surface and still count as seen."""
FACING = (0.15, 0.55)
"""Cosine of the angle to the viewer below which a texel takes nothing from the photo, and from which all."""
MOUTH_SHADE = 0.8
"""Of the light on the skin, that reaches what is behind the lips."""
FEATHER = 6.0
"""Texels over which photo and model colours blend."""


def photo_texture(face: Face, photo: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Light and all, so it is to be shown without light of its own.

    Where the photo does not show the head (its back, the inside of a shut mouth) the model's albedo under the light
    of the photo stands in, its colours adjusted to the photo's.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in.
    Returns:
        [size, size, 3] uint8, row 0 at v = 1.
    """
    data = face.head.data
    triangle, barycentric = cover(data.uv, data.uv_faces, size)
    covered = triangle >= 0
    corners = data.faces[triangle[covered]]
    weights = barycentric[covered].astype(np.float64)[..., None]
    points = (face.vertices[corners] * weights).sum(axis=1)
    normals = (vertex_normals(face.vertices, data.faces)[corners] * weights).sum(axis=1) @ face.camera.rotation.T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)

    seen = _visible(face, points) * _smoothstep(normals[:, 2], *FACING)
    places = face.camera.project(points)
    height, width = photo.shape[:2]
    seen *= ((places > 1) & (places < [width - 1, height - 1])).all(axis=1)
    grid = np.zeros((size, size, 2), np.float32)
    grid[covered] = places - 0.5  # OpenCV counts from pixel centres
    sampled = cv2.remap(photo, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = sampled[covered].astype(np.float64) / 255
    albedo = _albedo(face, covered, size)
    model = _lit(face, albedo, normals)
    certain = seen > 0.9
    if certain.sum() > 100:
        gain = np.median(colours[certain], axis=0) / np.median(model[certain], axis=0).clip(0.02)
        # teeth and tongue are not skin: they take its brightness, not its colour, nor that of the predicted light
        inside = np.isin(corners, data.regions.get("mouth_interior", ())).all(axis=1)
        brightness = np.median(colours[certain]) / np.median(albedo[certain])
        model = (model * gain.clip(0.3, 3)).clip(0, 1)
        model[inside] = albedo[inside] * MOUTH_SHADE * brightness.clip(0.3, 1.0)

    share = np.zeros((size, size), np.float32)
    share[covered] = seen
    # into the photo's side only: colours just outside of what is seen are those of what stood in front
    share = np.minimum(share, cv2.GaussianBlur(cv2.erode(share, np.ones((5, 5))), (0, 0), FEATHER))
    mixed = np.zeros((size, size, 3))
    own = share[covered][:, None]
    mixed[covered] = own * colours + (1 - own) * model
    rows, columns = nearest_covered(covered)
    return (mixed[rows, columns].clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _visible(face: Face, points: np.ndarray) -> np.ndarray:
    """[N] 1 where nothing of the head is nearer to the viewer than the point."""
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
    return (camera.depth(points) <= farthest[pixel[:, 1], pixel[:, 0]] + SLACK).astype(np.float64)


def _albedo(face: Face, covered: np.ndarray, size: int) -> np.ndarray:
    """[N, 3] the predicted albedo of the covered texels, sRGB in [0, 1]."""
    return cv2.resize(face.albedo, (size, size), interpolation=cv2.INTER_LINEAR)[covered] / 255


def _lit(face: Face, albedo: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """[N, 3] albedo under the predicted light, sRGB in [0, 1]."""
    pixels = torch.from_numpy(albedo.T[None, :, None].astype(np.float32))
    shaded = shade(pixels, torch.from_numpy(normals[None, None].astype(np.float32)), face.parameters.light[None])
    return shaded[0, :, 0].T.clamp(0, 1).double().numpy()


def _smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
