"""The overlay of reconstructed faces on their photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from tokenface.geometry.pinhole import FaceCamera
from tokenface.render.overlay import PhotoFace, overlay_strip


class PlacedFace(Protocol):
    """What is needed of a face, as `Face` has it."""

    @property
    def camera(self) -> FaceCamera: ...
    @property
    def vertices(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def landmarks(self) -> np.ndarray: ...


def overlay_picture(photo: np.ndarray, faces: Sequence[PlacedFace]) -> Image.Image:
    """Photo, mesh over photo, shaded mesh, landmarks, as one picture. photo: [H, W, 3] uint8."""
    return Image.fromarray(overlay_strip(photo, [photo_face(face) for face in faces]))


def photo_face(face: PlacedFace) -> PhotoFace:
    """A face as the picture makers take it: vertices in photo pixels with depth in pixels."""
    depth = face.camera.depth(face.vertices) * face.camera.pixels_per_metre
    vertices = np.column_stack([face.camera.project(face.vertices), depth]).astype(np.float32)
    return PhotoFace(vertices, face.faces, landmarks=face.landmarks.astype(np.float32))
