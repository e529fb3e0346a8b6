"""Face and 68 landmarks of an image: detected, or from the data set's annotation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tokenface.errors import ModelFileError
from tokenface.geometry.crop import Crop, crop_from_landmarks, extract
from tokenface.images.blazeface import box_iou
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.images.facemesh import FaceMesh

SEARCH_SCALE = 1.6
"""Crop around annotated landmarks in which the mesh looks for the same face."""
SAME_FACE = 0.3
UPRIGHT_SIDE, BOX_SHARE = 512, 0.5
"""Pixels of the upright crop for dlib's predictor, and the share of its side that is the face's box."""


class FaceFinder:
    """Finds the face a record is about and its points.

    Args:
        dlib_predictor: file of dlib's 68-point predictor, as the paper used; None: the face mesh's points.
    """

    def __init__(self, dlib_predictor: str | Path | None = None):
        self.detector = FaceDetector(quiet=True)
        self.mesh = FaceMesh(quiet=True) if self.detector.backend == "blazeface" else None
        self.predictor = None if dlib_predictor is None else DlibPredictor(dlib_predictor)

    def find(self, image: np.ndarray, annotated: np.ndarray | None, near: np.ndarray | None = None) -> Detection | None:
        """The largest face, the annotated one, or the one nearest to a box.

        Args:
            image: [H, W, 3] uint8.  annotated: [68, 2] points of the data set, kept as they are.
            near: [4] box of the face in the frame before.
        Returns:
            A detection with landmarks68, or None.
        """
        if annotated is not None:
            return self._annotated(image, annotated)
        found = self.detector.detect(image)
        if near is not None:
            found = [face for face in found if box_iou(near, face.box[None])[0] > SAME_FACE]
        if not found:
            return None
        face = found[0]
        if self.predictor is not None:
            return _with_points(face, self.predictor(image, face))
        return face if face.landmarks68 is not None else None

    def _annotated(self, image: np.ndarray, points: np.ndarray) -> Detection:
        """The annotation, with the dense mesh where it agrees on the place."""
        face = Detection.from_landmarks(points)
        if self.mesh is None:
            return face
        mesh = self.mesh(image, crop_from_landmarks(points, SEARCH_SCALE, face.roll))
        dense = face.with_mesh(mesh)
        if mesh.presence < 0.5 or dense.landmarks68 is None:
            return face
        box = np.concatenate([dense.landmarks68.min(0), dense.landmarks68.max(0)])
        if box_iou(face.box, box[None])[0] < SAME_FACE:
            return face
        return _with_points(dense, points)


def _with_points(face: Detection, points: np.ndarray) -> Detection:
    return replace(face, landmarks68=np.asarray(points, np.float64))


class DlibPredictor:
    """dlib's regression trees (Kazemi and Sullivan 2014) with the user's own file of 68 points."""

    def __init__(self, path: str | Path):
        try:
            import dlib
        except ImportError as error:
            raise ModelFileError("dlib's predictor needs the extra: pip install 'tokenface[dlib]'") from error
        path = Path(path).expanduser()
        if not path.is_file():
            raise ModelFileError(
                f"no landmark predictor at '{path}'; expected dlib's shape_predictor_68_face_landmarks.dat"
            )
        self._dlib = dlib
        try:
            self._predict = dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise ModelFileError(f"'{path}' is no landmark predictor of dlib ({str(error)[:80]})") from error

    def __call__(self, image: np.ndarray, face: Detection) -> np.ndarray:
        """[H, W, 3] uint8 and where the face is → [68, 2] photo pixels.

        The trees know upright faces in the boxes of dlib's own detector, which ours match (brows to chin), so they
        are shown the face turned upright by its roll.
        """
        x0, y0, x1, y1 = (float(v) for v in face.box)
        crop = Crop(((x0 + x1) / 2, (y0 + y1) / 2), face.size / BOX_SHARE, face.roll)
        upright = extract(image, [crop], UPRIGHT_SIDE)[0].permute(1, 2, 0)
        first, last = round(UPRIGHT_SIDE * (1 - BOX_SHARE) / 2), round(UPRIGHT_SIDE * (1 + BOX_SHARE) / 2) - 1
        pixels = (upright * 255).round().byte().numpy()
        shape = self._predict(np.ascontiguousarray(pixels), self._dlib.rectangle(first, first, last, last))
        if shape.num_parts != 68:
            raise ModelFileError(f"the landmark predictor gives {shape.num_parts} points, expected 68")
        points = np.array([[p.x + 0.5, p.y + 0.5, 1.0] for p in shape.parts()])
        return points @ crop.pixel_matrix(UPRIGHT_SIDE).T
