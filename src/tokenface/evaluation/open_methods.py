"""Methods of the open benchmark: mean head, landmark fit, network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.evaluation.landmark_fit import LandmarkFitter
from tokenface.evaluation.landmarks import landmarks_with_best_camera
from tokenface.evaluation.openbench import OpenSet
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from tokenface.model import Reconstructor

CENTRED_CAMERA = np.array([5.0, 0, 0, 0, 0, 0, 0])
"""Where a head is put when no face was found."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a method for N pictures, as meshes of its own head model.

    neutral, posed: [N, V, 3], metres; [1, V, 3] for a method that says the same of all.  points: [N, 68, 2] crop NDC.
    found: [N] bool, False where the method fell back to something simpler.  confidence: [N] or None.
    expected: [N] the error of the neutral face that the method expects, mm, NaN where it says nothing; or None.
    parameters: rows of all components, camera in the picture's NDC, or None.
    """

    neutral: np.ndarray
    posed: np.ndarray
    points: np.ndarray
    found: np.ndarray
    confidence: np.ndarray | None = None
    expected: np.ndarray | None = None
    parameters: FaceParameters | None = None


class Method(Protocol):
    """Predictions for pictures; `name` labels its rows."""

    name: str
    head: HeadModel

    def __call__(self, pictures: OpenSet) -> Predictions: ...


class MeanHead:
    """The head model's template; its points with the best camera that the truth allows."""

    name = "mean head"

    def __init__(self, head: HeadModel):
        self.head = head

    def __call__(self, pictures: OpenSet) -> Predictions:
        template = self.head.template[None]
        count = len(pictures.image)
        points = landmarks_with_best_camera(self.head, template.expand(count, -1, -1), pictures.points, rounds=2)
        return Predictions(template.numpy(), template.numpy(), points.numpy(), np.ones(count, bool))


class FittedLandmarks:
    """The head model fitted to the detector's 468 points; the mean head where it finds no face."""

    name = "landmark fit"

    def __init__(self, head: HeadModel, detector: FaceDetector):
        self.head, self.detector, self.fitter = head, detector, LandmarkFitter(head)

    @torch.no_grad()
    def __call__(self, pictures: OpenSet) -> Predictions:
        sizes, fits, found = self.head.sizes, [], []
        for image in as_photos(pictures.image):
            face = nearest_face(self.detector.detect(image), image.shape[1])
            found.append(face is not None)
            if face is None or face.landmarks468 is None:
                fits.append((np.zeros(sizes.shape), np.zeros(sizes.expression), np.zeros(3), CENTRED_CAMERA))
                continue
            fit = self.fitter.fit(np.asarray(face.landmarks468)[:, :2] * 2 / image.shape[1] - 1)
            fits.append((fit.shape, fit.expression, fit.jaw, fit.camera))
        shape, expression, jaw, camera = (
            torch.from_numpy(np.stack(column)).float() for column in zip(*fits, strict=True)
        )
        posed = self.head(shape, expression, jaw).vertices
        points = projected(self.head, posed, camera)
        return Predictions(self.head(shape).vertices.numpy(), posed.numpy(), points.numpy(), np.array(found))


class Network:
    """A network as `tokenface reconstruct` runs it; the whole picture as the crop where no face is found."""

    def __init__(self, model: Reconstructor):
        self.model, self.head, self.name = model, model.head, model.origin.weights

    @torch.no_grad()
    def __call__(self, pictures: OpenSet) -> Predictions:
        size = pictures.image.shape[-1]
        rows, points, found, confidence, expected = [], [], [], [], []
        for index, result in enumerate(self.model.iterate(as_photos(pictures.image))):
            face = min(result.faces, key=lambda f: _off_centre(f.box, size), default=None)
            found.append(face is not None)
            if face is None:
                crop = torch.nn.functional.interpolate(
                    pictures.image[index : index + 1], size=(self.model.crop_size,) * 2, mode="area"
                )
                own = self.model.predict(crop)
                camera = own.camera
                rows.append(own)
                confidence.append(0.0)
                expected.append(np.nan)
            else:
                camera = torch.from_numpy(camera_on_picture(face.camera, size)).float()[None]
                rows.append(FaceParameters(**{n: v[None] for n, v in face.parameters.items()}).replace(camera=camera))
                confidence.append(face.confidence)
                expected.append(face.confidence_features.expected_shape)
            posed = self.head(rows[-1].shape, rows[-1].expression, rows[-1].jaw).vertices
            points.append(projected(self.head, posed, camera))
        p = FaceParameters.cat(rows)
        return Predictions(
            self.head(p.shape).vertices.numpy(),
            self.head(p.shape, p.expression, p.jaw).vertices.numpy(),
            torch.cat(points).numpy(),
            np.array(found),
            np.array(confidence),
            np.array(expected),
            p,
        )


def as_photos(images: Tensor) -> list[np.ndarray]:
    """[N, 3, S, S] in [0, 1] → uint8 [S, S, 3] each."""
    return list((images.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().numpy())


def nearest_face(found: list[Detection], size: int) -> Detection | None:
    """The face with points whose box is nearest to the middle."""
    with_points = [face for face in found if face.landmarks468 is not None]
    return min(with_points, key=lambda face: _off_centre(face.box, size), default=None)


def projected(head: HeadModel, vertices: Tensor, camera: Tensor) -> Tensor:
    """[N, V, 3], [N, 7] → the 68 points [N, 68, 2], NDC, the jaw line as seen at the yaw."""
    view = Camera.from_vector(camera)
    return view.project(head.landmarks68(vertices, view.angles()[:, 0]))[..., :2]


def camera_on_picture(camera, size: int) -> np.ndarray:
    """[7] the scaled-orthographic camera of a face's crop, as a camera of the whole square picture in NDC."""
    matrix = np.asarray(camera.orthographic(), np.float64)  # head space to photo pixels, y down
    rows = matrix[:2, :3] * (2 / size) * [[1.0], [-1.0]]
    shift = (matrix[:2, 3] * (2 / size) - 1) * [1.0, -1.0]
    scale = float(np.linalg.norm(rows, axis=1).mean())
    first, second = rows / scale
    rotation = np.stack([first, second, np.cross(first, second)])
    return np.array([scale, *cv2.Rodrigues(rotation)[0].ravel(), *shift, 0.0])


def _off_centre(box: np.ndarray, size: int) -> float:
    return float(np.linalg.norm((np.asarray(box[:2]) + np.asarray(box[2:])) / 2 - size / 2))
