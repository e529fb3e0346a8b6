"""People in photos: faces found twice, grouping by recognition vectors, one pooled identity per person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tokenface.errors import ImageError
from tokenface.inference.face import Face

THRESHOLD = 0.55
"""Mean distance up to which two groups are one person: of the pairs that it joins among 227 people of YouTube Faces
(2,699 crops) 95 % are right. Chosen on these; measured on others (`docs/results.md`)."""
LIMIT = 20_000
"""Faces that are grouped at once: their pairs are all in memory, 8 bytes each."""
_NEVER = 1e9


def group_people(faces: Sequence[Face], threshold: float = THRESHOLD, one_in_photo: bool = True) -> list[list[Face]]:
    """The same faces, a list for each person, who is in most photos first.

    Args:
        faces: of `Reconstructor.reconstruct`, of any photos; their photos are loaded again.
        threshold: smaller: fewer people are taken for one, more people are taken for several.
        one_in_photo: two faces of one photo are two people; False for mirrors and collages.
    Raises:
        ImageError: a photo that is no longer there, or too many faces.
    """
    from tokenface.identity.recognition import recognition_vectors

    photos: dict[int, list[int]] = {}
    for place, face in enumerate(faces):
        photos.setdefault(id(face.item), []).append(place)
    vectors = np.empty((len(faces), 0), np.float32)
    for places in photos.values():
        found = recognition_vectors(faces[places[0]].item.load(), [faces[place].landmarks for place in places])
        if not vectors.shape[1]:
            vectors = np.empty((len(faces), found.shape[1]), np.float32)
        vectors[places] = found
    groups = group_vectors(vectors, [id(face.item) for face in faces] if one_in_photo else None, threshold)
    people: list[list[Face]] = [[] for _ in range(groups.max(initial=-1) + 1)]
    for face, group in zip(faces, groups, strict=True):
        people[group].append(face)
    return people


def group_vectors(vectors: np.ndarray, photos: Sequence[int] | None = None, threshold: float = THRESHOLD) -> np.ndarray:
    """Which person each vector is of.

    Args:
        vectors: [N, D] recognition vectors.  photos: [N] the photo of each, whose faces are then kept apart.
        threshold: Euclidean.
    Returns:
        [N] numbers from 0, the largest group first, the one that begins first among equals.
    Raises:
        ImageError: more than LIMIT faces.
    """
    count = len(vectors)
    if count > LIMIT:
        raise ImageError(f"{count} faces are too many to group at once; at most {LIMIT} are")
    if count < 2:
        return np.zeros(count, np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    distances = pdist(np.asarray(vectors, np.float64))
    if photos is not None:
        photo = np.unique(np.asarray(photos), return_inverse=True)[1]
        distances[pdist(photo[:, None].astype(np.float64)) == 0] = _NEVER
    found = fcluster(linkage(distances, "average"), threshold, "distance")
    _, first, group, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[group]


LEAST = 1e-3
"""Weight of a face that cannot be trusted at all: if all are like that, they count alike."""


def pool(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of [N, S] with weights [N] → [S]."""
    shares = np.asarray(weights, np.float64).clip(LEAST)
    return (shares @ values.astype(np.float64) / shares.sum()).astype(values.dtype)


def same_person(faces: Sequence[Face]) -> list[Face]:
    """The same faces with one identity: pooled shape and albedo; expression, jaw, camera and light stay their own.

    Raises:
        ImageError: no faces, or faces of different head models.
    """
    if not faces:
        raise ImageError("same_person needs at least one face")
    if len({id(face.head) for face in faces}) > 1:
        raise ImageError("same_person needs faces of one head model")
    weights = np.array([face.confidence for face in faces])
    pooled = {
        name: pool(np.stack([np.asarray(getattr(face.parameters, name)) for face in faces]), weights)
        for name in ("shape", "texture")
    }
    # `replace` makes new objects: what the old ones have computed (vertices) does not carry over
    return [
        replace(
            face,
            parameters=face.parameters.replace(
                **{name: _alike(value, getattr(face.parameters, name)) for name, value in pooled.items()}
            ),
        )
        for face in faces
    ]


def _alike(value: np.ndarray, example: Any) -> Any:
    """A copy, as an array or a tensor as the example is."""
    if isinstance(example, np.ndarray):
        return value.copy()
    import torch

    return torch.from_numpy(value.copy())
