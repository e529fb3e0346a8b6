"""One source image to one training image: face, landmarks, pose, visibility, mask, crop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tokenface.data.photos import SquareCrop
from tokenface.data.record import Picture
from tokenface.data.visibility import visible_points
from tokenface.errors import DataError
from tokenface.geometry.camera import Camera, fit_camera
from tokenface.head.model import HeadModel
from tokenface.images.detection import Detection
from tokenface.images.loading import load_image
from tokenface.prepare.faces import FaceFinder
from tokenface.prepare.options import PrepareOptions, QualityFilter
from tokenface.render.rasterizer import rasterize

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


DEPTH_SIZE = 96
DEPTH_SLACK = 0.010
"""Metres that a point may lie behind the mean head's surface and still be seen, as for rendered faces."""
FIXED = slice(17, 68)
"""The jaw line slides with the view on annotations, so brows, nose, eyes and mouth give the pose."""
MESH_STEP = 3
"""Every third point of the face mesh. On 32 frontal photos its pitch is −1.5° ± 4.4°, that of the 68 points taken from
the mesh −10° ± 13°: few points, most of them on lips and brows, mistake expressions for a nod."""


@dataclass(frozen=True)
class Pose:
    """angles: [3] yaw, pitch, roll, radians.  visible: [68] bool.  misfit: root mean square distance of the mean
    head's points to those of the face, in sides of the landmark box."""

    angles: np.ndarray
    visible: np.ndarray
    misfit: float


class PoseEstimator:
    """Fits the paper's camera to the mean head."""

    def __init__(self, head: HeadModel):
        self.template = head.template[None]
        self.faces = head.faces
        self.points = head.landmarks68(self.template)
        self.mesh_numbers = np.empty(0, np.int64)
        if head.mesh468_faces is not None:
            self.mesh_numbers = np.flatnonzero(head.mesh468_valid.numpy())[::MESH_STEP]
            self.mesh_points = head.landmarks468(self.template)[0].double().numpy()[self.mesh_numbers]

    @torch.no_grad()
    def __call__(self, landmarks: np.ndarray, landmarks468: np.ndarray | None = None) -> Pose:
        """Pose from [68, 2] picture pixels, better from the face mesh [468, ≥2] where there is one."""
        points = np.asarray(landmarks, np.float64)
        low, high = points.min(0), points.max(0)
        side = max(float((high - low).mean()), 1e-6)
        if landmarks468 is not None and len(self.mesh_numbers):
            known, seen = self.mesh_points, np.asarray(landmarks468, np.float64)[self.mesh_numbers, :2]
        else:
            known, seen = self.points[0, FIXED].double().numpy(), points[FIXED]
        ndc = (seen - (low + high) / 2) / side  # the box spans ± 0.5
        camera = Camera.from_vector(torch.from_numpy(fit_camera(known, ndc)).float()[None])
        fitted = camera.project(torch.from_numpy(known).float()[None])[0, :, :2].numpy()
        misfit = float(np.sqrt(((fitted - ndc) ** 2).sum(1).mean()))
        visible = self._visible(camera, camera.project(self.points))
        return Pose(camera.angles()[0].numpy().astype(np.float32), visible, misfit)

    def _visible(self, camera: Camera, seen: torch.Tensor) -> np.ndarray:
        fragments = rasterize(camera.project(self.template), self.faces, DEPTH_SIZE, DEPTH_SIZE)
        depth = torch.where(fragments.mask, fragments.depth, torch.inf)
        nothing = torch.zeros_like(depth)
        return visible_points(seen, depth, nothing, nothing, DEPTH_SLACK * camera.scale)[0].numpy()


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
