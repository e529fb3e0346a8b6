"""Faces of one photo that were found twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tokenface.inference.confidence import box_size
from tokenface.inference.face import Face

SAME = 0.2
"""Mean distance of two faces' 68 points over the root of their boxes' area, from which they are two. Faces cheek to
cheek are about 1 apart."""


def without_doubles(faces: Sequence[Face]) -> list[Face]:
    """One face for each place, the more confident one of those that share it; the order stays, the numbers close up."""
    kept: list[Face] = []
    for face in faces:
        place = next((k for k, other in enumerate(kept) if apart(face, other) < SAME), None)
        if place is None:
            kept.append(face)
        elif face.confidence > kept[place].confidence:
            kept[place] = face
    return [face if face.index == number else replace(face, index=number) for number, face in enumerate(kept)]


def apart(a: Face, b: Face) -> float:
    """Mean distance of the landmarks of two faces of one photo, in sizes of the smaller one."""
    size = min(box_size(a.landmarks), box_size(b.landmarks))
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / max(size, 1e-9))
