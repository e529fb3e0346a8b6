"""One picture to one training picture: face, points, pose, visibility, mask, a crop that holds every training crop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tokenface.data.photos import SquareCrop
from tokenface.data.record import Picture
from tokenface.head.model import HeadModel
from tokenface.images.detection import Detection
from tokenface.prepare.faces import FaceFinder
from tokenface.prepare.masks import hull_mask, supplied_mask
from tokenface.prepare.options import PrepareOptions, QualityFilter
from tokenface.prepare.pose import Pose, PoseEstimator

SHARPNESS_SIZE = 112


@dataclass(frozen=True)
class Rejected:
    """A picture that cannot be learnt from. reason: one of few words, counted in the report."""

    reason: str


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture's face before it is cropped. landmarks: [68, 2], landmarks468: [468, 3] or None, picture pixels."""

    image: np.ndarray
    landmarks: np.ndarray
    landmarks468: np.ndarray | None
    pose: Pose
    mask: np.ndarray
    margin: float

    @property
    def box(self) -> np.ndarray:
        """[4] of the landmarks."""
        return np.concatenate([self.landmarks.min(0), self.landmarks.max(0)])

    def square(self) -> tuple[np.ndarray, float]:
        """Centre [2] and side of the crop to store."""
        low, high = self.landmarks.min(0), self.landmarks.max(0)
        return (low + high) / 2, float((high - low).mean()) * self.margin


class PicturePreparer:
    """Holds the networks of one process."""

    def __init__(self, head: HeadModel, options: PrepareOptions):
        self.options = options
        self.finder = FaceFinder(options.dlib_predictor)
        self.pose = PoseEstimator(head)

    def examine(
        self, image: np.ndarray, annotated: np.ndarray | None, name: str, near: np.ndarray | None = None
    ) -> Seen | Rejected:
        """The face of a picture and everything known of it.

        Args:
            image: [H, W, 3] uint8 RGB.  annotated: [68, 2] points of the data set, or None.
            name: of the picture, for supplied masks.  near: [4] the face's box in the frame before.
        """
        face = self.finder.find(image, annotated, near)
        if face is None or face.landmarks68 is None:
            return Rejected("no face found")
        pose = self.pose(face.landmarks68, face.landmarks468)
        reason = poor(image, face, pose, self.options.quality)
        if reason is not None:
            return Rejected(reason)
        height, width = image.shape[:2]
        mask = (
            supplied_mask(Path(self.options.masks), name, (height, width))
            if self.options.masks is not None
            else hull_mask(height, width, face.landmarks68, face.landmarks468)
        )
        return Seen(image, face.landmarks68, face.landmarks468, pose, mask, self.options.margin)

    def cropped(self, seen: Seen, centre: np.ndarray, side: float) -> Picture:
        """The square of a picture that is stored: [2] centre and side in its pixels; nothing is enlarged."""
        size = int(min(self.options.size, max(32, np.ceil(side))))
        crop = SquareCrop(centre, side, 0.0, False, size)

        def moved(xy: np.ndarray) -> np.ndarray:
            return (xy @ crop.linear.T + crop.offset).astype(np.float32)

        dense = None
        if seen.landmarks468 is not None:
            depth = seen.landmarks468[:, 2:] * (size / side)
            dense = np.concatenate([moved(seen.landmarks468[:, :2]), depth], axis=1).astype(np.float32)
        height, width = seen.image.shape[:2]
        inside = (seen.landmarks >= 0).all(1) & (seen.landmarks <= [width, height]).all(1)
        return Picture(
            image=crop.pixels(seen.image),
            landmarks=moved(seen.landmarks),
            visible=seen.pose.visible & inside,
            angles=seen.pose.angles,
            box=moved(seen.box.reshape(2, 2)).ravel(),
            landmarks468=dense,
            mask=crop.pixels(seen.mask, cv2.BORDER_CONSTANT),
        )


def poor(image: np.ndarray, face: Detection, pose: Pose, rules: QualityFilter) -> str | None:
    """Why a face is too poor to learn from, or None."""
    assert face.landmarks68 is not None
    points = face.landmarks68
    low, high = points.min(0), points.max(0)
    if (high - low).mean() < rules.smallest_face:
        return "face too small"
    if face.landmarks468 is not None and face.presence < rules.presence:
        return "face not clear"
    inside = (points >= 0).all(1) & (points < [image.shape[1], image.shape[0]]).all(1)
    if inside.mean() < rules.inside:
        return "face cut by the picture's edge"
    if pose.misfit > rules.misfit:
        return "landmarks do not fit a head"
    if sharpness(image, low, high) < rules.sharpness:
        return "blurred"
    return None


def sharpness(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Root mean square of the Laplacian of the face's grey levels, brought to one size so that pictures compare."""
    side = max(float((high - low).mean()), 1.0)
    face = SquareCrop((low + high) / 2, side, 0.0, False, SHARPNESS_SIZE).pixels(image)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    return float(np.sqrt((cv2.Laplacian(grey, cv2.CV_32F) ** 2).mean()))
