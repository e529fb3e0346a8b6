"""The 468 face-mesh points of a head model as a function of its parameters, with exact derivatives."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from tokenface.errors import HeadModelError
from tokenface.head.model import JAW, HeadModel


class MeshPoints:
    """Shape, expression and jaw to the face-mesh points of a head.

    Only the jaw turns, so a vertex x of jaw weight w goes to `x + w (R − I)(x − j)`. Summed over a triangle with
    barycentrics b this is `X + (R − I)(Y − W j)` with `X = Σ b x`, `Y = Σ b w x`, `W = Σ b w`; X, Y and the joint j are
    linear in the coefficients.

    valid: [468] bool, the points that the head has; all others are left out of every array (N of them remain).
    """

    def __init__(self, head: HeadModel):
        """Raises HeadModelError: the head model has no face-mesh correspondence, or pose correctives."""
        if head.mesh468_faces is None:
            raise HeadModelError(
                f"head model '{head.name}' does not know the 468 points of the face mesh, which refinement follows; "
                "use weights of 'openhead'"
            )
        if head.pose_basis is not None:
            raise HeadModelError(f"refinement does not know the pose correctives of head model '{head.name}'")
        self.valid = head.mesh468_valid.cpu().numpy()
        corners = head.faces[head.mesh468_faces.clamp(min=0)].cpu().numpy()[self.valid]
        share = head.mesh468_barycentrics.cpu().double().numpy()[self.valid]
        weighted = share * head.skinning_weights.cpu().double().numpy()[corners, JAW]
        self.vertex = corners[np.arange(len(corners)), share.argmax(1)]
        self.turning = weighted.sum(1)
        self.mean, self.mean_turning = (_on(head.template[None], corners, w)[0] for w in (share, weighted))
        self.basis, self.basis_turning = (_on(head.basis, corners, w) for w in (share, weighted))
        self.joint = head.joint_template.cpu().double().numpy()[JAW]
        self.joint_basis = head.joint_basis.cpu().double().numpy()[:, JAW]
        self.shape_size, self.expression_size = head.sizes.shape, head.sizes.expression

    def __len__(self) -> int:
        return len(self.turning)

    def __call__(self, coefficients: np.ndarray, jaw: np.ndarray) -> np.ndarray:
        """[K] shape then expression, [3] axis-angle → [N, 3], metres, head space."""
        still, arm = self._parts(coefficients)
        return still + arm @ (cv2.Rodrigues(jaw)[0] - np.eye(3)).T

    def derivatives(
        self, coefficients: np.ndarray, jaw: np.ndarray, wanted: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the points: by the wanted coefficients [K, N, 3] and by the jaw's axis-angle [3, N, 3]."""
        turn, by_jaw = cv2.Rodrigues(np.asarray(jaw, np.float64))
        arm = self._parts(coefficients)[1]
        if np.allclose(turn, np.eye(3)):
            by_coefficients = self.basis[wanted]
        else:
            arms = self.basis_turning[wanted] - self.turning[:, None] * self.joint_basis[wanted][:, None]
            by_coefficients = self.basis[wanted] + arms @ (turn - np.eye(3)).T
        return by_coefficients, np.einsum("nj,kij->kni", arm, by_jaw.reshape(3, 3, 3))

    def _parts(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        still = self.mean + np.tensordot(coefficients, self.basis, 1)
        joint = self.joint + coefficients @ self.joint_basis
        arm = self.mean_turning + np.tensordot(coefficients, self.basis_turning, 1) - self.turning[:, None] * joint
        return still, arm


def _on(vertices: Tensor, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B, V, 3], [N, 3], [N, 3] → [B, N, 3] float64."""
    picked = vertices.cpu().numpy()[:, corners].astype(np.float64)
    return np.einsum("bncd,nc->bnd", picked, weights)
