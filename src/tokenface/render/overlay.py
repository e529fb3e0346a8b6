"""Overlays: reconstructed heads over their photo, as clay, and landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from tokenface.render.clay import ClayStyle, clay_layer
from tokenface.render.landmark_drawing import draw_landmarks

MAX_SIDE = 1600
"""Pixels of the longer side of a picture; larger photos are drawn reduced."""

_STUDIO = ((0.255, 0.275, 0.31), (0.115, 0.125, 0.145))  # sRGB of the backdrop, top and bottom
_GAP = 8


@dataclass(frozen=True)
class PhotoFace:
    """One face in a photo.

    vertices: [V, 3], photo pixels (x right, y down, pixel centres at +0.5) and depth in pixels, smaller is nearer.
    faces: [F, 3], counter-clockwise seen from outside.  landmarks: [N, 2] photo pixels, or None.
    colours: [V, 3] sRGB in [0, 1] per vertex, or None for clay.
    """

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray | None = None
    colours: np.ndarray | None = None

    def scaled(self, factor: float, offset: tuple[float, float] = (0.0, 0.0)) -> PhotoFace:
        """The same face in a photo whose top left corner is moved to `offset` and that is then resized by `factor`."""
        vertices = np.asarray(self.vertices, np.float32).copy()
        vertices[:, :2] -= np.asarray(offset, np.float32)
        landmarks = self.landmarks
        if landmarks is not None:
            landmarks = (np.asarray(landmarks, np.float32)[:, :2] - np.asarray(offset, np.float32)) * factor
        return replace(self, vertices=vertices * factor, landmarks=landmarks)


def mesh_over_photo(
    photo: np.ndarray, faces: Sequence[PhotoFace], *, alpha: float = 0.8, style: ClayStyle | None = None
) -> np.ndarray:
    """The heads as translucent clay on the photo: uint8 [H, W, 3] → uint8 [h, w, 3], at most MAX_SIDE pixels."""
    photo, faces = fit(photo, faces)
    return _compose(_as_float(photo), _heads(faces, photo.shape, style), alpha)


def wireframe_over_photo(photo: np.ndarray, faces: Sequence[PhotoFace], *, line_width: float = 0.7) -> np.ndarray:
    """The triangles' edges (the nearest surface only) on the photo."""
    style = ClayStyle(
        wireframe=line_width, wire_colour=(0.75, 1.0, 0.88), wire_alpha=0.8, surface_alpha=0.0, shadows=False
    )
    return mesh_over_photo(photo, faces, alpha=1.0, style=style)


def shaded_meshes(faces: Sequence[PhotoFace], height: int, width: int, *, style: ClayStyle | None = None) -> np.ndarray:
    """The heads alone before a studio backdrop, where the photo has them: uint8 [H, W, 3]."""
    return _compose(_backdrop(height, width), _heads(faces, (height, width), style), 1.0)


def landmarks_over_photo(photo: np.ndarray, faces: Sequence[PhotoFace]) -> np.ndarray:
    """The faces' landmarks on the photo; faces without landmarks are left as they are."""
    photo, faces = fit(photo, faces)
    for face in faces:
        if face.landmarks is not None:
            photo = draw_landmarks(photo, face.landmarks)
    return photo


def overlay_strip(
    photo: np.ndarray,
    faces: Sequence[PhotoFace],
    *,
    panel_side: int = 720,
    crop: tuple[float, float, float, float] | Literal["auto"] | None = "auto",
    columns: int | None = None,
    alpha: float = 0.8,
    style: ClayStyle | None = None,
) -> np.ndarray:
    """Photo, mesh over photo, shaded mesh, landmarks: four panels in one picture.

    Args:
        photo: uint8 [H, W, 3] RGB.
        faces: those of the photo; none gives four panels without meshes.
        panel_side: pixels of the longer side of a panel (the photo is never enlarged beyond twice its size).
        crop: x0, y0, x1, y1 in photo pixels; None: the whole photo; "auto": around the heads where they fill less
            than a third of the photo.
        columns: 4 for a strip, 2 for a square; None: a strip unless the photo is wide.
    Returns:
        uint8 [h, w, 3].
    """
    _check_photo(photo)
    if crop == "auto":
        crop = automatic_crop(photo, faces)
    if crop is not None:
        x0, y0 = max(int(crop[0]), 0), max(int(crop[1]), 0)
        x1, y1 = min(round(crop[2]), photo.shape[1]), min(round(crop[3]), photo.shape[0])
        if x1 - x0 < 1 or y1 - y0 < 1:
            raise ValueError(f"crop {crop} lies outside the {photo.shape[1]} × {photo.shape[0]} photo")
        photo, faces = photo[y0:y1, x0:x1], [face.scaled(1.0, (x0, y0)) for face in faces]
    photo, faces = fit(photo, faces, min(panel_side, MAX_SIDE, 2 * max(photo.shape[:2])), enlarge=True)
    height, width = photo.shape[:2]

    heads = _heads(faces, photo.shape, style)
    panels = [
        photo,
        _compose(_as_float(photo), heads, alpha),
        _compose(_backdrop(height, width), heads, 1.0),
        landmarks_over_photo(photo, faces),
    ]
    columns = columns or (4 if width <= 1.25 * height else 2)
    rows = -(-len(panels) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for k, panel in enumerate(panels):
        top, left = k // columns * (height + _GAP), k % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = panel
    return sheet


def crop_around(faces: Sequence[PhotoFace], margin: float = 0.25) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of all heads together, wider by `margin` of their size on every side."""
    points = np.concatenate([np.asarray(face.vertices)[:, :2] for face in faces])
    if not np.isfinite(points).all():
        raise ValueError("vertices are not finite")
    low, high = points.min(axis=0), points.max(axis=0)
    pad = margin * float((high - low).max())
    return float(low[0] - pad), float(low[1] - pad), float(high[0] + pad), float(high[1] + pad)


def automatic_crop(photo: np.ndarray, faces: Sequence[PhotoFace]) -> tuple[float, float, float, float] | None:
    """The part of the photo around its heads where they fill less than a third of it; None: all of it."""
    faces = [face for face in faces if np.isfinite(face.vertices).all()]
    if not faces:
        return None
    x0, y0, x1, y1 = crop_around(faces, 0.3)
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    worth_it = min(x1 - x0, y1 - y0) >= 8 and (x1 - x0) * (y1 - y0) < height * width / 3
    return (x0, y0, x1, y1) if worth_it else None


def fit(
    photo: np.ndarray, faces: Sequence[PhotoFace], max_side: int = MAX_SIDE, *, enlarge: bool = False
) -> tuple[np.ndarray, list[PhotoFace]]:
    """Photo and faces resized together so that the longer side is at most (with `enlarge`, exactly) `max_side`."""
    _check_photo(photo)
    height, width = photo.shape[:2]
    factor = max_side / max(height, width)
    if factor == 1 or (factor > 1 and not enlarge):
        return photo, list(faces)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    resized = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return resized, [face.scaled(factor) for face in faces]


def _heads(faces: Sequence[PhotoFace], shape: tuple[int, ...], style: ClayStyle | None) -> np.ndarray:
    """All heads as one premultiplied layer [H, W, 4]; the smallest, taken to be the farthest, are hidden by others."""
    together = np.zeros((*shape[:2], 4), np.float32)
    for face in sorted(faces, key=lambda face: float(np.ptp(np.asarray(face.vertices)[:, 1]))):
        layer = clay_layer(face.vertices, face.faces, shape[0], shape[1], style=style, colours=face.colours)
        together = layer + together * (1 - layer[..., 3:])
    return together


def _compose(picture: np.ndarray, heads: np.ndarray, alpha: float) -> np.ndarray:
    """The layer of heads over a float picture, to uint8."""
    mixed = picture * (1 - alpha * heads[..., 3:]) + alpha * heads[..., :3]
    return (mixed.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _backdrop(height: int, width: int) -> np.ndarray:
    top, bottom = (np.asarray(c, np.float32) for c in _STUDIO)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    return (top + (bottom - top) * ramp) * (1 - 0.18 * across**2)


def _as_float(photo: np.ndarray) -> np.ndarray:
    return photo.astype(np.float32) / 255


def _check_photo(photo: np.ndarray) -> None:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"a photo is uint8 [H, W, 3] RGB, got {photo.dtype} {photo.shape}")
