"""Photos to faces with any network: detection, both passes, and what fails photo by photo."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from tokenface.errors import ImageError, ModelFileError, TokenFaceError
from tokenface.geometry.crop import Crop
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.images.loading import MAX_PIXELS
from tokenface.images.remote import collect_photos
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.doubles import without_doubles
from tokenface.inference.face import Face, Origin
from tokenface.inference.people import same_person as one_identity
from tokenface.inference.photos import BATCH_SIZE, Photo, groups, per_photo, prepared, unexpected
from tokenface.inference.prediction import Prediction
from tokenface.inference.reader import read_faces
from tokenface.inference.result import NoFaceError, PhotoResult

logger = logging.getLogger("tokenface")


class PhotoModel(ABC):
    """Reader of photos, for what reads crops (`CropReader`): `Reconstructor` by torch, `LightModel` without."""

    head: Any
    crop_scale: float
    origin: Origin
    _detector: FaceDetector | None = None

    @property
    def detector(self) -> FaceDetector:
        """The face detector, made on first use.

        Raises:
            ModelFileError: its models are missing and cannot be fetched.
        """
        if self._detector is None:
            self._detector = FaceDetector()
        return self._detector

    @abstractmethod
    def predictions(self, images: Sequence[np.ndarray], crops: Sequence[Crop], batch_size: int) -> list[Prediction]:
        """One prediction for each crop, of the picture [H, W, 3] uint8 beside it."""

    @abstractmethod
    def calibrated(self, features: ConfidenceFeatures, prediction: Prediction) -> ConfidenceFeatures:
        """The features with a calibrated probability, where there is a calibration."""

    def reconstruct(
        self,
        source: Any,
        boxes: Any = None,
        landmarks: Any = None,
        *,
        batch_size: int = BATCH_SIZE,
        max_faces: int | None = None,
        recursive: bool = False,
        second_crop: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        same_person: bool = False,
    ) -> list[Face]:
        """Every face of one or many photos; photos without a face add nothing.

        Args:
            source: path, address (https://…, s3://…), folder, open file, array [H, W, 3], PIL image, encoded bytes,
                tensor [3, H, W] or batch [B, 3, H, W], or a list of these.
            boxes: faces that are known, [N, 4] x0, y0, x1, y1 in photo pixels; for several photos a list with one
                entry per photo, or a mapping from photo name to boxes. None: find them.
            landmarks: [N, 68, 2] iBUG points in photo pixels instead, in the same forms.
            batch_size: faces per network batch.
            max_faces: the largest ones of a photo; None: all.
            recursive: folders with everything below them.
            second_crop: crop again from the network's own landmarks.
            on_error: "raise" stops at a photo that cannot be read; "skip" logs a warning and goes on.
            same_person: all photos show one person, the largest face of each: they get one identity, the mean of
                their shapes and albedos weighted by confidence.
        Returns:
            Faces in the order of the photos, largest first within a photo.
        Raises:
            ImageError: nothing to read, or a photo that cannot be read (on_error="raise").
            ModelFileError: the face detector's models are missing and cannot be fetched.
        """
        results = self.iterate(
            source,
            boxes,
            landmarks,
            batch_size=batch_size,
            max_faces=1 if same_person else max_faces,
            recursive=recursive,
            second_crop=second_crop,
        )
        faces = [face for result in accepted(results, on_error) for face in result.faces]
        return self.one_person(faces) if same_person and faces else faces

    def one_person(self, faces: Sequence[Face]) -> list[Face]:
        """Faces of one person with one identity, pooled by confidence."""
        return one_identity(faces)

    def iterate(
        self,
        source: Any,
        boxes: Any = None,
        landmarks: Any = None,
        *,
        batch_size: int = BATCH_SIZE,
        max_faces: int | None = None,
        recursive: bool = False,
        second_crop: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> Generator[PhotoResult]:
        """`reconstruct`, photo by photo, in order: faces or an error for each. Decoding and finding faces run in a
        thread beside the network; a photo that fails does not stop the others.

        Args:
            max_pixels: larger photos are refused.
        """
        items = collect_photos(source, recursive=recursive)
        known_boxes, known_landmarks = per_photo(boxes, items, "boxes"), per_photo(landmarks, items, "landmarks")
        if batch_size < 1:
            raise ImageError(f"batch_size is at least 1, got {batch_size}")
        if any(a is None and b is None for a, b in zip(known_boxes, known_landmarks, strict=True)):
            _ = self.detector  # models that cannot be had concern all photos: fail once, and before the first

        given = [a is not None or b is not None for a, b in zip(known_boxes, known_landmarks, strict=True)]
        # two detections may turn out to be one face: with twice as many, the largest ones are among them
        sought = None if max_faces is None else max(max_faces, 2 * max_faces - 1)

        def find(number: int, image: np.ndarray) -> list[Detection]:
            found = self._find(image, known_boxes[number], known_landmarks[number])
            return found[: max_faces if given[number] else sought]

        def finish(number: int, result: PhotoResult) -> PhotoResult:
            if not given[number]:
                result.faces = without_doubles(result.faces)[:max_faces]
            return result

        return self._run(prepared(items, find, max_pixels), batch_size, second_crop, finish)

    def _find(self, image: np.ndarray, boxes: Any, landmarks: Any) -> list[Detection]:
        if landmarks is not None:
            try:
                points = np.asarray(landmarks, dtype=np.float64)
                return [Detection.from_landmarks(face) for face in (points[None] if points.ndim == 2 else points)]
            except ValueError as error:
                raise ImageError(f"landmarks are [N, 68, 2] photo pixels ({error})") from error
        if boxes is None:
            return self.detector.detect(image)
        try:
            corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        except (ValueError, TypeError) as error:
            raise ImageError(f"boxes are [N, 4] x0, y0, x1, y1 in photo pixels ({error})") from error
        try:
            return self.detector.align(image, corners)
        except ModelFileError:  # the mesh would only improve the crops
            return [Detection(box=box, score=1.0) for box in corners]

    def _run(
        self,
        photos: Iterator[Photo],
        batch_size: int,
        second_crop: bool,
        finish: Callable[[int, PhotoResult], PhotoResult],
    ) -> Generator[PhotoResult]:
        number = 0
        try:
            for group in groups(photos, batch_size):
                for read in self._group(group, batch_size, second_crop):
                    yield finish(number, read)
                    number += 1
        finally:
            if hasattr(photos, "close"):
                photos.close()

    def _group(self, photos: list[Photo], batch_size: int, second_crop: bool) -> Iterable[PhotoResult]:
        """Both passes over the faces of a few photos."""
        try:
            faces = iter(read_faces(self, photos, batch_size, second_crop))
        except TokenFaceError:
            raise
        except Exception as error:
            if len(photos) > 1:  # find the one that is to blame, and save the others
                return [result for photo in photos for result in self._group([photo], batch_size, second_crop)]
            return [PhotoResult(photos[0].item, image=photos[0].image, error=unexpected(photos[0].item, error))]
        results = []
        for photo in photos:
            result = PhotoResult(photo.item, [next(faces) for _ in photo.detections], photo.image, photo.error)
            if not result.faces and result.error is None:
                result.error = NoFaceError(
                    f"no face found in '{photo.item.name}'; give a box (--boxes, boxes=) if there is one"
                )
            results.append(result)
        return results


def accepted(results: Iterable[PhotoResult], on_error: Literal["raise", "skip"]) -> Iterator[PhotoResult]:
    """The results; a photo that failed raises its error, or is logged and left out. One without a face is neither."""
    for result in results:
        if result.status == "failed" and result.error is not None:
            if on_error == "raise":
                raise result.error
            logger.warning("%s", result.error)
        else:
            yield result
