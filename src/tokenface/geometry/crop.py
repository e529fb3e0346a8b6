"""Square face crops: the similarity between photo pixels and crop NDC, and resampling.

Photo pixels and crop pixels have centres at +0.5; crop NDC goes from −1 to 1 from edge to edge, x right, y down
(`tokenface.geometry.camera`). A crop may be rotated, so that the network sees every face upright.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar, overload

import cv2
import numpy as np

if TYPE_CHECKING:  # arrays are cropped without torch
    from torch import Tensor

Array = TypeVar("Array", "np.ndarray", "Tensor")
Border = Literal["reflect", "grey", "edge"]

LANDMARK_BOX_SCALE = 1.1
"""A box around 68 landmarks ends at the brows; faces do not [DECA's crop]."""
TEST_SCALE = 1.25
"""Enlargement at test time; 1.6 for NoW and AFLW2000 [DECA, SMIRK]."""
BENCHMARK_SCALE = 1.6
BOX_LOWERING = 0.12
"""A detector's box sits high on the face: its centre is lowered by this share of its size [DECA]."""


@dataclass(frozen=True)
class Crop:
    """A square of the photo.

    centre: (x, y), photo pixels.  size: side length, photo pixels.  angle: radians, the direction of Camera's roll:
    positive turns the square anticlockwise as seen on the photo. A face with that roll is upright in the crop.
    """

    centre: tuple[float, float]
    size: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        if not (self.size > 0 and all(map(math.isfinite, (*self.centre, self.size, self.angle)))):
            raise ValueError(f"a crop needs a finite centre and angle and a positive size, got {self}")

    def matrix(self) -> np.ndarray:
        """[2, 3] float64: crop NDC (x, y, 1) to photo pixels."""
        cos, sin = math.cos(self.angle) * self.size / 2, math.sin(self.angle) * self.size / 2
        return np.array([[cos, sin, self.centre[0]], [-sin, cos, self.centre[1]]])

    def pixel_matrix(self, pixels: int) -> np.ndarray:
        """[2, 3] float64: pixels of a crop that is `pixels` wide (x, y, 1) to photo pixels."""
        to_ndc = np.array([[2 / pixels, 0, -1], [0, 2 / pixels, -1], [0, 0, 1]])
        return self.matrix() @ to_ndc

    def to_photo(self, points: Array) -> Array:
        """Crop NDC [..., 2 or 3] to photo pixels; a third column (depth) is scaled alike, to photo pixels."""
        matrix = self.matrix()
        return _apply(points, matrix[:, :2], matrix[:, 2], self.size / 2)

    def to_ndc(self, points: Array) -> Array:
        """Photo pixels [..., 2 or 3] to crop NDC: the inverse of `to_photo`."""
        matrix = self.matrix()
        inverse = np.linalg.inv(matrix[:, :2])
        return _apply(points, inverse, -inverse @ matrix[:, 2], 2 / self.size)

    def scaled(self, factor: float) -> Crop:
        """The same centre and angle, `factor` times as wide."""
        return replace(self, size=self.size * factor)

    def corners(self) -> np.ndarray:
        """[4, 2] photo pixels: top left, top right, bottom right, bottom left of the crop."""
        return self.to_photo(np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))


def crop_from_box(
    box: Sequence[float] | np.ndarray, scale: float = TEST_SCALE, angle: float = 0.0, lowering: float = BOX_LOWERING
) -> Crop:
    """Crop of a detector's box [x0, y0, x1, y1] in photo pixels: side (w + h)/2 · scale, centre lowered.

    Args:
        angle: roll of the face; the lowering follows it, towards the chin.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"a box is [x0, y0, x1, y1] with x1 > x0 and y1 > y0, got {[x0, y0, x1, y1]}")
    size = (x1 - x0 + y1 - y0) / 2
    drop = lowering * size
    centre = ((x0 + x1) / 2 + drop * math.sin(angle), (y0 + y1) / 2 + drop * math.cos(angle))
    return Crop(centre, size * scale, angle)


def crop_from_landmarks(
    landmarks: np.ndarray | Tensor,
    scale: float = TEST_SCALE,
    angle: float = 0.0,
    box_scale: float = LANDMARK_BOX_SCALE,
) -> Crop:
    """Crop of 68 landmarks [68, 2 or 3] in photo pixels: the middle of their box, side (w + h)/2 · 1.1 · scale.

    Args:
        angle: roll of the face; the box is taken along the rotated axes.
    """
    if hasattr(landmarks, "detach"):
        landmarks = landmarks.detach().cpu().numpy()
    points = np.asarray(landmarks, dtype=np.float64)[..., :2].reshape(-1, 2)
    if len(points) < 2 or not np.isfinite(points).all():
        raise ValueError(f"landmarks must be finite [N, 2] photo pixels, got {np.shape(landmarks)}")
    cos, sin = math.cos(angle), math.sin(angle)
    axes = np.array([[cos, sin], [-sin, cos]])  # crop axes to photo axes
    aligned = points @ axes
    low, high = aligned.min(axis=0), aligned.max(axis=0)
    centre = axes @ ((low + high) / 2)
    size = float((high - low).sum() / 2 * box_scale * scale)
    return Crop((float(centre[0]), float(centre[1])), size, angle)


@overload
def roll_of(right_to_left: np.ndarray, chin_to_brow: np.ndarray) -> float: ...
@overload
def roll_of(right_to_left: np.ndarray, chin_to_brow: None = None) -> float: ...
def roll_of(right_to_left: np.ndarray, chin_to_brow: np.ndarray | None = None) -> float:
    """In-plane rotation of a face, radians, anticlockwise on the picture positive.

    Args:
        right_to_left: [2], photo pixels, from the subject's right eye to the left one.
        chin_to_brow: [2], from the chin up. In profile the eyes' line vanishes and this one speaks; each counts by
            its foreshortened length.
    """
    across = complex(right_to_left[0], -right_to_left[1])
    up = complex(chin_to_brow[0], -chin_to_brow[1]) if chin_to_brow is not None else 0j
    direction = across - 1j * up
    return math.atan2(direction.imag, direction.real)


def extract(image: np.ndarray, crops: Sequence[Crop], size: int, border: Border = "edge") -> Tensor:
    """`extract_array` as a tensor [B, 3, size, size]."""
    import torch

    return torch.from_numpy(extract_array(image, crops, size, border))


def extract_array(image: np.ndarray, crops: Sequence[Crop], size: int, border: Border = "edge") -> np.ndarray:
    """Pixels of the crops, antialiased when the photo is finer than the crop.

    Args:
        image: [H, W, 3] uint8, or float32 in [0, 1], RGB.
        border: what stands beyond the photo: its edge pixels drawn out, its mirror image, or mid grey. Faces cut by
            the photo's edge want the first: a mirror image completes them wrongly (the face mesh's error on the
            visible part of 110 faces with a fifth cut off: edge 1.6 %, grey 1.9 %, mirrored 10 % of the box).
    Returns:
        [B, 3, size, size] float32 in [0, 1]; [0, 3, size, size] for no crops.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be [H, W, 3], got {image.shape}")
    pixels = np.empty((len(crops), size, size, 3), np.float32)
    for out, crop in zip(pixels, crops, strict=True):
        out[:] = _extract_one(image, crop, size, border)
    if image.dtype == np.uint8:
        pixels /= 255
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).clip(0, 1)


def halved(image: np.ndarray, times: int) -> np.ndarray:
    """Means of blocks of 2^times × 2^times pixels; sides must be multiples of it. Much faster than one large step."""
    for _ in range(times):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image


def _extract_one(image: np.ndarray, crop: Crop, size: int, border: Border) -> np.ndarray:
    """[size, size, 3] float32 in the image's own range. Halve as often as possible, then sample twice as densely and
    average: no aliasing at any reduction, and the cost stays that of the region."""
    reduction = crop.size / size
    halvings = max(0, math.floor(math.log2(reduction)))
    factor = 2**halvings
    region, (left, top) = _region(image, crop, margin=4 * factor, multiple=factor)
    region = halved(region, halvings)
    dense = 2 * size if reduction > 1 else size
    to_photo = crop.pixel_matrix(dense)
    matrix = to_photo - np.array([[0, 0, left], [0, 0, top]])
    matrix /= factor
    # OpenCV counts from pixel centres: shift by half a pixel on both sides.
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    modes = {"reflect": cv2.BORDER_REFLECT, "edge": cv2.BORDER_REPLICATE, "grey": cv2.BORDER_CONSTANT}
    grey = (127.0,) * 3 if image.dtype == np.uint8 else (0.5,) * 3
    warped = cv2.warpAffine(region, matrix, (dense, dense), flags=flags, borderMode=modes[border], borderValue=grey)
    if dense != size:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, dtype=np.float32)


def _region(image: np.ndarray, crop: Crop, margin: int, multiple: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of the photo that the crop (and its mirror image beyond the photo's edge) needs, and its offset."""
    corners = crop.corners()
    spans = []
    for axis, length in ((0, image.shape[1]), (1, image.shape[0])):
        low, high = corners[:, axis].min() - margin, corners[:, axis].max() + margin
        start = min(low, 2 * length - high)  # what lies beyond an edge is mirrored into the photo
        stop = max(high, -low)
        start, stop = max(0, math.floor(start)), min(length, math.ceil(stop))
        if stop - start < multiple:  # the crop lies off the photo altogether, or the photo is tiny
            start, stop = 0, length
        spans.append((start, stop))
    (left, right), (top, bottom) = spans
    region = image[top:bottom, left:right]
    pad = [-side % multiple for side in region.shape[:2]]  # so that whole blocks are averaged
    if any(pad):
        region = cv2.copyMakeBorder(region, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(region), (left, top)


def _apply(points: Array, linear: np.ndarray, offset: np.ndarray, depth_scale: float) -> Array:
    if not isinstance(points, np.ndarray):
        import torch

        linear_t = torch.as_tensor(linear, dtype=points.dtype, device=points.device)
        offset_t = torch.as_tensor(offset, dtype=points.dtype, device=points.device)
        moved = points[..., :2] @ linear_t.T + offset_t
        return torch.cat([moved, points[..., 2:] * depth_scale], dim=-1)
    moved_array = points[..., :2] @ linear.T + offset
    return np.concatenate([moved_array, points[..., 2:] * depth_scale], axis=-1)
