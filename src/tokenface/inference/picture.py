"""The overlay of reconstructed faces on their photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from tokenface.inference.face import Face
from tokenface.render.overlay import PhotoFace, overlay_strip


def overlay_picture(photo: np.ndarray, faces: Sequence[Face]) -> Image.Image:
    """Photo, mesh over photo, shaded mesh, landmarks, as one picture. photo: [H, W, 3] uint8."""
    return Image.fromarray(overlay_strip(photo, [photo_face(face) for face in faces]))


def photo_face(face: Face) -> PhotoFace:
    """A face as the picture makers take it: vertices in photo pixels with depth in pixels."""
    depth = face.camera.depth(face.vertices) * face.camera.pixels_per_metre
    vertices = np.column_stack([face.camera.project(face.vertices), depth]).astype(np.float32)
    return PhotoFace(vertices, face.faces, landmarks=face.landmarks.astype(np.float32))
