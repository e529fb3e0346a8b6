"""Two people blended into one: shape, albedo and skin between theirs, with the expression of one of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
import torch

from tokenface.errors import TokenFaceError
from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.face import Face
from tokenface.inference.part_rig import iris_of_albedo
from tokenface.inference.refinement import Refinement
from tokenface.parameters import FaceParameters

Shown = Literal["first", "second"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BlendedFace(Face):
    """A face between two. Expression, jaw, light and camera are those of one of them, and so is its photo.

    people: the two.  share: of the second in shape, albedo, size, skin and irises, 0 to 1.
    """

    people: tuple[Face, Face]
    share: float

    @cached_property
    def _own_skin(self) -> np.ndarray:
        first, second = (person._own_skin for person in self.people)
        return mixed_skin(first, second, self.share)

    @cached_property
    def _own_iris(self) -> np.ndarray | None:
        return mixed_iris(self.people, [person._own_iris for person in self.people], self.share)


def blend(first: Face, second: Face, share: float = 0.5, expression: Shown = "first") -> BlendedFace:
    """A person between two: `blend(a, b, 0.3).save("ab.glb")` has the skin and irises of both photos.

    Args:
        share: of the second person; 0 is the first, 1 the second.
        expression: whose expression, jaw, light and place on a photo it has.
    Raises:
        TokenFaceError: different head models, or a share beyond 0 and 1.
    """
    check_same_head(first, second)
    if not 0 <= share <= 1:
        raise TokenFaceError(f"the share of the second person is 0 to 1, got {share:g}")
    shown = first if expression == "first" else second
    parameters = blended_parameters(first.parameters, second.parameters, share)
    parameters = shown.parameters.replace(shape=parameters.shape, texture=parameters.texture)
    size = (1 - share) * first.size + share * second.size
    kept = {entry.name: getattr(shown, entry.name) for entry in fields(Face)}
    sized = {"camera": _farther(shown.camera, size / shown.size), "refined": _of_size(size, first, second)}
    return BlendedFace(**{**kept, **sized, "parameters": parameters}, people=(first, second), share=share)


def blended_parameters(first: FaceParameters, second: FaceParameters, share: float) -> FaceParameters:
    """`first` with shape and albedo moved towards the other person's: share 0 is the first, 1 the second."""
    return first.replace(
        shape=torch.lerp(first.shape, second.shape, share), texture=torch.lerp(first.texture, second.texture, share)
    )


def check_same_head(first: Face, second: Face) -> None:
    """Raises TokenFaceError: the faces belong to different head models, whose numbers mean different things."""
    if first.origin.head_hash != second.origin.head_hash:
        raise TokenFaceError(
            f"'{first.head.name}' and '{second.head.name}' are different head models; blend within one "
            "(tokenface convert brings a face to another)"
        )


def mixed_skin(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Textures [R, R, 3] uint8 of one layout mixed, at the larger one's size. share: of the second."""
    size = max(len(first), len(second))
    one, other = (
        texture if len(texture) == size else cv2.resize(texture, (size, size), interpolation=cv2.INTER_CUBIC)
        for texture in (first, second)
    )
    return np.rint(one + share * (other.astype(np.float32) - one)).astype(np.uint8)


def mixed_iris(people: tuple[Face, Face], irises: list[np.ndarray | None], share: float) -> np.ndarray | None:
    """[3] uint8 sRGB; the albedo's stands in for a photo that shows none; None: neither does."""
    if all(iris is None for iris in irises):
        return None
    one, other = (
        (iris_of_albedo(person.head, person.albedo) if iris is None else iris).astype(np.float64)
        for person, iris in zip(people, irises, strict=True)
    )
    return np.rint(one + share * (other - one)).astype(np.uint8)


def _of_size(size: float, first: Face, second: Face) -> Refinement | None:
    """The size's record; what refined either of them does not hold for the blend."""
    records = [face.refined for face in (first, second) if face.refined is not None and face.size != 1]
    if not records:
        return None
    return Refinement(
        points=None, photometric=None, shape_moved=0.0, seconds=0.0, size=size, size_origin=records[0].size_origin
    )


def _farther(camera: FaceCamera, factor: float) -> FaceCamera:
    """The camera that shows a head `factor` times as large in its place, as large as before."""
    if factor == 1:
        return camera
    vector = camera.vector.copy()
    vector[0] /= factor
    lens = None if camera.lens is None else replace(camera.lens, t=camera.lens.t * factor)
    return replace(camera, vector=vector, lens=lens)
