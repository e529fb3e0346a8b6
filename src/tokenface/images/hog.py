"""dlib's HOG face detector: a weaker stand-in that needs no model files (extra `dlib`)."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from tokenface.errors import ModelFileError
from tokenface.images.detection import Detection

LONG_SIDE = 1200
"""Photos are brought near this size: the detector sees faces from about 80 px, and its cost grows with the area."""
SMALL_SIDE = 500
LOWEST_MARGIN = 0.15
"""Of the classifier; 0, its own threshold, sees more faces in folds of cloth than in faces that it would miss."""


class HogDetector:
    """Upright, roughly frontal faces; boxes only."""

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ModelFileError(
                "the dlib backend needs the package dlib-bin; run 'pip install tokenface[dlib]', "
                "or use backend='blazeface'."
            ) from error
        self._dlib = dlib
        self._local = threading.local()

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """[H, W, 3] uint8 RGB → faces without landmarks. The score is the classifier's margin squeezed to [0, 1]."""
        if not hasattr(self._local, "detector"):
            self._local.detector = self._dlib.get_frontal_face_detector()
        side = max(photo.shape[:2])
        factor = LONG_SIDE / side if side > LONG_SIDE else (2.0 if side < SMALL_SIDE else 1.0)
        if factor != 1:
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=method)
        rectangles, scores, _ = self._local.detector.run(np.ascontiguousarray(photo), 1, LOWEST_MARGIN)
        faces = []
        for rectangle, margin in zip(rectangles, scores, strict=True):
            corners = [rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1]
            box = np.array(corners, dtype=np.float64) / factor
            faces.append(Detection(box=box, score=float(1 / (1 + np.exp(-2 * margin)))))
        return faces
