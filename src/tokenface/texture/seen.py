"""Protocol of a face to be textured."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arrays import AnyHead


class SeenFace(Protocol):
    """A reconstructed face as `inference.face.Face` has it: head model, camera, mesh in metres, predicted albedo, the
    68 points on the photo."""

    @property
    def head(self) -> AnyHead: ...
    @property
    def camera(self) -> FaceCamera: ...
    @property
    def vertices(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def landmarks(self) -> np.ndarray: ...
    @property
    def albedo(self) -> np.ndarray: ...
