"""Where the face's skin is on a picture: the hull of its points, or a segmentation that the user supplies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tokenface.errors import DataError
from tokenface.images.loading import load_image

FOREHEAD = 0.45
"""How far the hull rises above the brows without mesh points on the forehead, in distances from nose tip to brows."""


def hull_mask(height: int, width: int, landmarks: np.ndarray, landmarks468: np.ndarray | None) -> np.ndarray:
    """[H, W] uint8, 255 inside the convex hull of the mesh's points, or of the 68 points and a forehead above them."""
    if landmarks468 is not None:
        points = landmarks468[:, :2]
    else:
        brows = landmarks[17:27]
        points = np.concatenate([landmarks, brows + FOREHEAD * (brows - landmarks[30])])
    # cv2 counts pixel centres as integers; four fractional bits
    hull = cv2.convexHull(((points - 0.5) * 16).round().astype(np.int32).reshape(-1, 1, 2))
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, hull, 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def supplied_mask(folder: Path, name: str, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] uint8 from `<folder>/<name>.png`; brighter than half is face.

    Raises:
        DataError: there is none, or it is of another size than the picture.
    """
    path = folder / f"{name}.png"
    if not path.is_file():
        raise DataError(f"no segmentation '{path}'; give one for every picture, or leave --masks out")
    mask = load_image(path)[..., 0]
    if mask.shape != shape:
        raise DataError(f"segmentation '{path}' is {mask.shape[::-1]}, its picture {shape[::-1]}")
    return np.where(mask > 127, np.uint8(255), np.uint8(0))
