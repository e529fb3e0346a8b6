"""Face reader: crop, predict, second-pass crop from the predicted landmarks, confidence features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.images.detection import Detection
from tokenface.inference.confidence import ConfidenceFeatures, box_size, confidence_features_of, landmark_distance
from tokenface.inference.face import Face, Origin
from tokenface.inference.photos import Photo
from tokenface.inference.prediction import Prediction

if TYPE_CHECKING:
    from tokenface.head.model import HeadModel

LOST = 0.35
"""A first prediction further from the detector's points (over the root of their box area) is not cropped from again."""


class CropReader(Protocol):
    """Protocol of what predicts crops: `Predictor`, and `LightModel`, which does without torch."""

    crop_scale: float
    origin: Origin

    @property
    def head(self) -> HeadModel: ...
    def predictions(self, images: Sequence[np.ndarray], crops: Sequence[Crop], batch_size: int) -> list[Prediction]: ...
    def calibrated(self, features: ConfidenceFeatures, prediction: Prediction) -> ConfidenceFeatures: ...


def read_faces(predictor: CropReader, photos: Sequence[Photo], batch_size: int, second_crop: bool) -> list[Face]:
    """All faces that were found in some photos, in their order; `second_crop`: predict again from the crop around the
    landmarks of the first pass."""
    seen = [(photo, index, face) for photo in photos for index, face in enumerate(photo.detections)]
    images = [photo.image for photo, _, _ in seen if photo.image is not None]  # a photo with detections has been read
    first = predictor.predictions(images, [face.crop(predictor.crop_scale) for _, _, face in seen], batch_size)
    final = first
    if second_crop:
        crops = [
            recropped(before, face, predictor.crop_scale) for before, (_, _, face) in zip(first, seen, strict=True)
        ]
        final = predictor.predictions(images, crops, batch_size)
    return [
        Face(
            parameters=prediction.parameters,
            camera=prediction.camera,
            box=np.asarray(detection.box, np.float64),
            confidence_features=predictor.calibrated(_confidence_features(detection, before, prediction), prediction),
            head=predictor.head,
            item=photo.item,
            origin=predictor.origin,
            index=index,
            observed468=detection.landmarks468,
        )
        for before, prediction, (photo, index, detection) in zip(first, final, seen, strict=True)
    ]


def recropped(first: Prediction, detection: Detection, scale: float) -> Crop:
    """The crop of the second pass: around the predicted landmarks, upright; the first one if they went astray."""
    points, crop = first.landmarks68, first.crop
    distance = landmark_distance(detection, points, first.landmarks468)
    size = box_size(points if detection.landmarks68 is None else detection.landmarks68)
    if not np.isfinite(points).all() or (distance is not None and distance > LOST * size):
        return crop
    refined = crop_from_landmarks(points, scale, first.roll)
    middle = np.subtract(refined.centre, crop.centre)
    astray = float(np.hypot(*middle)) > crop.size / 2 or not 0.4 < refined.size / crop.size < 2.5
    return crop if astray else refined


def _confidence_features(detection: Detection, before: Prediction, prediction: Prediction) -> ConfidenceFeatures:
    return confidence_features_of(
        detection,
        prediction.landmarks68,
        prediction.landmarks468,
        before.landmarks68,
        np.asarray(prediction.parameters.shape),
        prediction.camera,
    )
