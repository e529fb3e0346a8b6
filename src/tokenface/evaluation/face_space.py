"""Identity coefficients as face displacements, modulo a similarity transform."""

from __future__ import annotations

import numpy as np
import torch

from tokenface.head.model import HeadModel


class FaceSpace:
    """The metric of identity: how far shapes are apart on the face, whatever their size, turn and place.

    Displacements are projected off the seven directions in which scale, rotation and translation move the mean face
    (exact to first order; shapes move by millimetres where the face measures decimetres). Every question then is a
    quadratic form of the coefficients.
    """

    def __init__(self, head: HeadModel):
        region = np.asarray(head.data.regions.get("face", np.arange(head.vertex_count)), dtype=np.int64)
        face = head.template[torch.from_numpy(region)].double().numpy()
        modes = head.basis[: head.sizes.shape][:, torch.from_numpy(region)].double().numpy().reshape(-1, face.size)
        similarity = _similarity_directions(face)
        modes = modes - modes @ similarity @ similarity.T
        self.gram = modes @ modes.T / len(face)

    def inner(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Mean over the face of the displacements' dot product: [N, S] twice → [N], square metres."""
        return np.einsum("ns,ns->n", first @ self.gram, second)

    def rms(self, shapes: np.ndarray) -> np.ndarray:
        """[N, S] → [N] root mean square displacement over the face, millimetres."""
        return 1000 * np.sqrt(np.maximum(self.inner(shapes, shapes), 0))

    @property
    def spread(self) -> float:
        """Of the population that the head model describes, millimetres."""
        return 1000 * float(np.sqrt(np.trace(self.gram)))


def _similarity_directions(points: np.ndarray) -> np.ndarray:
    """[P, 3] → [3P, 7] orthonormal."""
    centred = points - points.mean(0)
    axes = np.eye(3)
    moves = [np.tile(axis, (len(points), 1)) for axis in axes]
    moves += [np.cross(axis, centred) for axis in axes] + [centred]
    return np.linalg.qr(np.stack([move.ravel() for move in moves], axis=1))[0]
