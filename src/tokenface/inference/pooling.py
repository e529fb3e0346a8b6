"""One person, one identity: shape and skin of several faces of a person as their confidence-weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tokenface.errors import ImageError
from tokenface.inference.face import Face

LEAST = 1e-3
"""Weight of a face that cannot be trusted at all: if all are like that, they count alike."""


def pool(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of [N, S] with weights [N] → [S]."""
    shares = weights.double().clamp(min=LEAST)
    return ((values.double() * shares[:, None]).sum(0) / shares.sum()).to(values.dtype)


def same_person(faces: Sequence[Face]) -> list[Face]:
    """The same faces with one identity: pooled shape and albedo; expression, jaw, camera and light stay their own.

    Raises:
        ImageError: no faces, or faces of different head models.
    """
    if not faces:
        raise ImageError("same_person needs at least one face")
    if len({id(face.head) for face in faces}) > 1:
        raise ImageError("same_person needs faces of one head model")
    weights = torch.tensor([face.confidence for face in faces])
    shape = pool(torch.stack([face.parameters.shape for face in faces]), weights)
    texture = pool(torch.stack([face.parameters.texture for face in faces]), weights)
    # `replace` makes new objects: what the old ones have computed (vertices) does not carry over
    return [
        replace(face, parameters=face.parameters.replace(shape=shape.clone(), texture=texture.clone()))
        for face in faces
    ]
