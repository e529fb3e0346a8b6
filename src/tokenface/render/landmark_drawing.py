"""Landmark drawing: antialiased dots, and the polylines of the 68 iBUG points."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

IBUG68_LINES: tuple[tuple[tuple[int, ...], bool], ...] = (
    (tuple(range(0, 17)), False),  # jaw
    (tuple(range(17, 22)), False),  # right brow
    (tuple(range(22, 27)), False),  # left brow
    (tuple(range(27, 31)), False),  # nose ridge
    (tuple(range(31, 36)), False),  # nose base
    (tuple(range(36, 42)), True),  # right eye
    (tuple(range(42, 48)), True),  # left eye
    (tuple(range(48, 60)), True),  # outer lips
    (tuple(range(60, 68)), True),  # inner lips
)
"""Points of each part, and whether the line closes."""

_SHIFT = 4  # OpenCV takes coordinates as integers with this many fractional bits


def draw_landmarks(
    picture: np.ndarray,
    landmarks: np.ndarray,
    *,
    colour: tuple[int, int, int] = (90, 255, 170),
    line_colour: tuple[int, int, int] = (255, 255, 255),
    radius: float | None = None,
    lines: bool = True,
) -> np.ndarray:
    """A copy of the picture with the points of one face.

    Args:
        picture: uint8 [H, W, 3] RGB.
        landmarks: [N, 2 or more] pixels, pixel centres at +0.5; points that are not finite are left out.
        radius: of the dots, pixels; None: by the size of the face.
        lines: join the points where N is 68.
    """
    out = np.ascontiguousarray(picture).copy()
    points = np.asarray(landmarks, np.float64)[:, :2]
    good = np.isfinite(points[:, 0] + points[:, 1]) & (np.abs(points).max(axis=1) < 1 << 20)
    if not good.any():
        return out
    extent = np.ptp(points[good], axis=0).max()
    radius = float(np.clip(extent / 100, 1.3, 7.0)) if radius is None else radius
    # OpenCV puts pixel centres at whole numbers
    fixed = np.zeros(points.shape, np.int64)
    fixed[good] = np.rint((points[good] - 0.5) * (1 << _SHIFT)).astype(np.int64)

    if lines and len(points) == 68:
        drawn = out.copy()
        thickness = max(round(radius * 0.6), 1)
        for indices, closed in IBUG68_LINES:
            ring = (*indices, indices[0]) if closed else indices
            for a, b in itertools.pairwise(ring):
                if good[a] and good[b]:
                    ends = tuple(int(v) for v in fixed[a]), tuple(int(v) for v in fixed[b])
                    cv2.line(drawn, *ends, line_colour, thickness, cv2.LINE_AA, _SHIFT)
        out = cv2.addWeighted(drawn, 0.55, out, 0.45, 0)
    for point in points[good]:
        _disc(out, point, radius + 0.8, (20, 26, 24))
        _disc(out, point, radius, colour)
    return out


def _disc(picture: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    """Antialiased by the distance of pixel centres to the rim, in place; OpenCV's small circles look square."""
    height, width = picture.shape[:2]
    left, top = np.maximum(np.floor(centre - radius - 1).astype(int), 0)
    right, bottom = np.minimum(np.ceil(centre + radius + 1).astype(int), (width, height))
    if left >= right or top >= bottom:
        return
    x, y = np.arange(left, right) + 0.5 - centre[0], np.arange(top, bottom) + 0.5 - centre[1]
    cover = np.clip(radius + 0.5 - np.hypot(x[None], y[:, None]), 0, 1)[..., None]
    patch = picture[top:bottom, left:right]
    patch[:] = np.rint(patch * (1 - cover) + np.asarray(colour) * cover).astype(np.uint8)
