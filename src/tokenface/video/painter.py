"""Fast overlays of heads on video frames: drawn at most 480 pixels large with simple shading."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from tokenface.geometry.normals import vertex_normals
from tokenface.head.model import HeadModel
from tokenface.render.rasterizer import interpolate, rasterize
from tokenface.video.face import TrackedFace

LARGEST = 480
SMALLEST = 8
OPACITY = 0.75
COLOURS = np.array(
    [(0.84, 0.82, 0.78), (0.55, 0.78, 0.95), (0.98, 0.75, 0.50), (0.66, 0.88, 0.62), (0.93, 0.66, 0.80)], np.float32
)
"""sRGB of the heads, by person."""
LIGHTS = (((-0.45, 0.55, 0.70), 0.68), ((0.80, 0.10, 0.45), 0.22))
AMBIENT = 0.28
DOT = (110, 255, 180)


class HeadPainter:
    """Draws the tracked faces of a frame."""

    def __init__(self, head: HeadModel) -> None:
        self.triangles = torch.from_numpy(np.array(head.data.faces, np.int64))

    def paint(self, image: np.ndarray, faces: Sequence[TrackedFace], landmarks: bool = True) -> np.ndarray:
        """A copy of the frame [H, W, 3] uint8 with heads, landmarks and the number of each person."""
        picture = image.copy()
        for face in sorted(faces, key=lambda face: face.camera.pixels_per_metre):
            self._head(picture, face)
        for face in faces:
            if landmarks:
                _dots(picture, face)
            if len(faces) > 1 or face.person:
                _number(picture, face)
        return picture

    @torch.inference_mode()
    def _head(self, picture: np.ndarray, face: TrackedFace) -> None:
        camera = face.camera
        points = camera.project(face.vertices)
        height, width = picture.shape[:2]
        low = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(points.max(axis=0)), [width, height]).astype(int)
        side = int((high - low).max())
        if (high - low).min() < SMALLEST:
            return
        size = min(side, LARGEST)
        # a square that begins at the region's corner: NDC from −1 to 1
        ndc = (points - low) * (2 / side) - 1
        depth = camera.depth(face.vertices) * camera.pixels_per_metre * (2 / side)
        vertices = torch.from_numpy(np.column_stack([ndc, depth]).astype(np.float32))[None]
        fragments = rasterize(vertices, self.triangles, size, size)
        rotation = torch.from_numpy(camera.rotation.astype(np.float32))
        normals = vertex_normals(torch.from_numpy(face.vertices)[None], self.triangles) @ rotation.T
        pixels = F.normalize(interpolate(fragments, normals, self.triangles)[0], dim=-1)
        layer = _lit(pixels, COLOURS[face.person % len(COLOURS)]).numpy()
        mask = fragments.mask[0].float().numpy()
        columns, rows = (round((high - low)[axis] * size / side) for axis in (0, 1))
        region = picture[low[1] : high[1], low[0] : high[0]]
        target = (region.shape[1], region.shape[0])
        colour = cv2.resize(
            layer[:rows, :columns] * mask[:rows, :columns, None], target, interpolation=cv2.INTER_LINEAR
        )
        alpha = cv2.resize(mask[:rows, :columns], target, interpolation=cv2.INTER_LINEAR)[..., None]
        mixed = region * (1 - OPACITY * alpha) + OPACITY * 255 * colour
        region[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _lit(normals: torch.Tensor, colour: np.ndarray) -> torch.Tensor:
    """Normals [S, S, 3] (x right, y up, z towards the viewer) → sRGB [S, S, 3] of a plain surface."""
    light = torch.full(normals.shape[:2], AMBIENT)
    for direction, strength in LIGHTS:
        towards = F.normalize(torch.tensor(direction), dim=0)
        light = light + strength * (normals @ towards).clamp(min=0)
    rim = (1 - normals[..., 2].clamp(0, 1)) ** 3 * 0.18
    return ((light * 0.95 + rim)[..., None] * torch.from_numpy(colour)).clamp(0, 1)


def _dots(picture: np.ndarray, face: TrackedFace) -> None:
    points = face.landmarks
    radius = float(np.clip(np.ptp(points, axis=0).max() / 130, 1.0, 4.0))
    for x, y in np.rint((points - 0.5) * 16).astype(int).tolist():
        cv2.circle(picture, (x, y), round(radius * 16), DOT, -1, cv2.LINE_AA, 4)


def _number(picture: np.ndarray, face: TrackedFace) -> None:
    x0, y0, x1, _ = face.box
    scale = float(np.clip((x1 - x0) / 180, 0.4, 2.0))
    place = (int(max(x0, 2)), int(max(y0 - 8 * scale, 14 * scale)))
    for colour, thickness in (((20, 20, 20), 4), ((255, 255, 255), 1)):
        width = max(1, round(thickness * scale))
        cv2.putText(picture, str(face.person), place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
