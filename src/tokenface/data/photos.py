"""Labelled photos: a set split by person, and training crops (jitter, mirror, landmarks in crop NDC)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.data.held_out import Split
from tokenface.data.readers.landmark_tar import YOUTUBE_FACES_SHIFT, LandmarkShift, read_landmark_tar
from tokenface.data.record import PhotoRecord, split_by_identity
from tokenface.errors import DataError
from tokenface.geometry.landmarks import MIRROR68


@dataclass(frozen=True)
class PhotoConfig:
    """Real photos with 68 landmarks; left out when `tar` is null."""

    tar: str | None = None
    share: float = 0.25  # of each batch
    held_out_people: int = 60
    split_seed: int = 0
    shift: LandmarkShift = YOUTUBE_FACES_SHIFT  # of the annotations; zeros for other sources
    source: str = "youtube_faces"  # whose label offsets are learned (network.label_sources)

    def split(self, known: Collection[str] = ()) -> Split:
        """Who is held out. known: digests of people who were held out before."""
        return Split(self.held_out_people, self.split_seed, frozenset(known))


def photo_records(config: PhotoConfig, known: Collection[str] = ()) -> tuple[list[PhotoRecord], list[PhotoRecord]]:
    """(training, held-out) photos of the configured tar; two empty lists without one.

    Args:
        known: digests of people who were held out before.
    Raises:
        DataError: no such tar, or too few people in it.
    """
    if config.tar is None:
        return [], []
    records = list(read_landmark_tar(config.tar, config.shift))
    try:
        return split_by_identity(records, config.split(known))
    except ValueError as error:
        raise DataError(f"'{config.tar}': {error}; set photos.held_out_people lower") from error


@dataclass(frozen=True)
class PhotoTarget:
    """Self-training targets of B photos: shape [B, S], expression [B, E], jaw [B, 3].

    known: [B, E] in [0, 1], how much is known of each action.  changed: [B, E], whether a warp changed it.
    """

    shape: Tensor
    expression: Tensor
    jaw: Tensor
    known: Tensor
    changed: Tensor


@dataclass(frozen=True)
class PhotoBatch:
    """image: [B, 3, S, S] in [0, 1].  landmarks68: [B, 68, 2], crop NDC (x right, y down).

    target: of self-training.
    """

    image: Tensor
    landmarks68: Tensor
    target: PhotoTarget | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PhotoBatch:
        t = self.target
        if t is not None:
            t = PhotoTarget(*(getattr(t, field.name).to(device, non_blocking=non_blocking) for field in fields(t)))
        image = self.image.to(device, non_blocking=non_blocking)
        return PhotoBatch(image, self.landmarks68.to(device, non_blocking=non_blocking), t)


@dataclass(frozen=True)
class CropJitter:
    """Random variation of training crops (Crop [DECA]: landmark box × U(1.4, 1.8), no ×1.1)."""

    scale: tuple[float, float] = (1.3, 1.75)
    shift: float = 0.06  # of the crop, standard deviation-free uniform ±
    roll_degrees: float = 12.0
    mirror: bool = True


class PhotoSampler:
    """Draws labelled crops; the same seed gives the same batch."""

    def __init__(self, records: list[PhotoRecord], size: int, jitter: CropJitter | None = None):
        if not records:
            raise ValueError("no photo records to sample from")
        self.records = records
        self.size = size
        self.jitter = jitter or CropJitter()

    def sample(self, batch: int, seed: int, rows: slice = slice(None)) -> PhotoBatch:
        """The given rows of a batch; the others are drawn, but not made."""
        rng = np.random.default_rng(seed)
        crops = [self._draw(self.records[i], rng) for i in rng.integers(len(self.records), size=batch)][rows]
        images = np.empty((len(crops), self.size, self.size, 3), np.uint8)
        points = np.empty((len(crops), 68, 2), np.float32)
        for i, crop in enumerate(crops):
            images[i], points[i] = crop_labelled(*crop, self.size)
        image = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
        return PhotoBatch(image, torch.from_numpy(points).clone())  # aligned alike in every run

    def _draw(
        self, record: PhotoRecord, rng: np.random.Generator
    ) -> tuple[PhotoRecord, np.ndarray, float, float, bool]:
        jitter = self.jitter
        low, high = record.landmarks.min(0), record.landmarks.max(0)
        side = float((high - low).mean()) * rng.uniform(*jitter.scale)
        centre = (low + high) / 2 + rng.uniform(-jitter.shift, jitter.shift, 2) * side
        angle = float(np.deg2rad(rng.uniform(-jitter.roll_degrees, jitter.roll_degrees)))
        mirror = bool(jitter.mirror and rng.random() < 0.5)
        return record, centre, side, angle, mirror


def crop_labelled(
    record: PhotoRecord, centre: np.ndarray, side: float, angle: float, mirror: bool, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A square crop of a labelled photo.

    Args:
        centre: [2] photo pixels.  side: photo pixels.  angle: radians by which the content turns.
    Returns:
        [size, size, 3] uint8, and [68, 2] landmarks in crop NDC (mirrored points are renamed by MIRROR68).
    """
    crop = SquareCrop(centre, side, angle, mirror, size)
    return crop.pixels(record.image), crop.landmarks(record.landmarks)


class SquareCrop:
    """A square of a photo, turned and mirrored: pixels, points and masks of it agree.

    Args:
        centre: [2] photo pixels.  side: photo pixels.  angle: radians by which the content turns, clockwise on the
            picture.  mirror: left and right change places, after the turn.  size: pixels of the crop.
    """

    def __init__(self, centre: np.ndarray, side: float, angle: float, mirror: bool, size: int):
        self.side, self.mirror, self.size = side, mirror, size
        cos, sin = np.cos(angle) / side * size, np.sin(angle) / side * size
        self.linear = np.array([[cos, -sin], [sin, cos]])
        if mirror:
            self.linear[0] *= -1
        self.offset = size / 2 - self.linear @ centre

    def pixels(self, image: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """[H, W] or [H, W, C] uint8 → [size, size(, C)], antialiased when it shrinks."""
        # cv2 counts pixel centres as integers, we put them at +0.5
        cv_offset = self.offset + self.linear @ np.array([0.5, 0.5]) - 0.5
        matrix = np.concatenate([self.linear, cv_offset[:, None]], axis=1)
        source, matrix = _shrink_for(image, matrix, self.size / self.side)
        return cv2.warpAffine(source, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderMode=border)

    def points(self, points: np.ndarray) -> np.ndarray:
        """[N, 2] photo pixels → crop NDC, float32, in their own order."""
        return ((points @ self.linear.T + self.offset) * (2 / self.size) - 1).astype(np.float32)

    def landmarks(self, points: np.ndarray) -> np.ndarray:
        """[68, 2] photo pixels → crop NDC; when mirrored, renamed by MIRROR68."""
        moved = self.points(points)
        return moved[list(MIRROR68)] if self.mirror else moved


def _shrink_for(image: np.ndarray, matrix: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """Area-average a picture that is about to shrink to less than half, so that bilinear sampling does not alias."""
    if zoom >= 0.6:
        return image, matrix
    height, width = image.shape[:2]
    factor = zoom * 1.25
    small = cv2.resize(
        image, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=cv2.INTER_AREA
    )
    sx, sy = width / small.shape[1], height / small.shape[0]
    # small pixel q ↔ photo pixel p (centres as integers): p = s·(q + 0.5) − 0.5
    scaled = matrix.copy()
    scaled[:, 0] *= sx
    scaled[:, 1] *= sy
    scaled[:, 2] += matrix[:, :2] @ np.array([(sx - 1) / 2, (sy - 1) / 2])
    return small, scaled
