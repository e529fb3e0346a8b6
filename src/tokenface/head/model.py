"""Head model in FLAME's formulation: template + identity + expression, linear blend skinning."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.geometry.rotations import rotvec_to_rotmat
from tokenface.head.data import JAW, JOINT_PARENTS, LEFT_EYE, NECK, RIGHT_EYE, HeadData
from tokenface.parameters import FaceParameters

__all__ = ["JAW", "LEFT_EYE", "NECK", "RIGHT_EYE", "HeadMesh", "HeadModel", "on_triangles"]


@dataclass(frozen=True)
class HeadMesh:
    """vertices: [B, V, 3], metres, head space.  joints: [B, 5, 3], rest positions of this person."""

    vertices: Tensor
    joints: Tensor


class HeadModel(nn.Module):
    """A differentiable head: parameters in, vertices out. Holds buffers only; nothing here is trained."""

    template: Tensor
    basis: Tensor
    joint_template: Tensor
    joint_basis: Tensor
    skinning_weights: Tensor
    pose_basis: Tensor | None
    eye_drive: Tensor | None
    faces: Tensor
    static_faces: Tensor
    static_barycentrics: Tensor
    contour_faces: Tensor
    contour_barycentrics: Tensor
    mesh468_faces: Tensor  # None on heads without the correspondence, as is the next
    mesh468_barycentrics: Tensor

    def __init__(self, data: HeadData):
        super().__init__()
        self.data = data
        self.name = data.name
        self.expression_names = data.expression_names
        self.expression_range = data.expression_range
        self.sizes = data.sizes
        basis = np.concatenate([data.shape_basis, data.expression_basis]).astype(np.float32)
        self._buffer("template", data.template, torch.float32)
        self._buffer("basis", basis, torch.float32)
        self._buffer("joint_template", data.joint_template, torch.float32)
        self._buffer("joint_basis", data.joint_basis, torch.float32)
        self._buffer("skinning_weights", data.skinning_weights, torch.float32)
        self._buffer("pose_basis", data.pose_basis, torch.float32)
        self._buffer("eye_drive", data.eye_drive, torch.float32)
        self._buffer("faces", data.faces, torch.int64)
        self._buffer("static_faces", data.static_landmark_faces, torch.int64)
        self._buffer("static_barycentrics", data.static_landmark_barycentrics, torch.float32)
        self._buffer("contour_faces", data.contour_faces, torch.int64)
        self._buffer("contour_barycentrics", data.contour_barycentrics, torch.float32)
        self._buffer("mesh468_faces", data.mesh468_faces, torch.int64)
        self._buffer("mesh468_barycentrics", data.mesh468_barycentrics, torch.float32)

    def _buffer(self, name: str, array: np.ndarray | None, dtype: torch.dtype) -> None:
        value = None if array is None else torch.as_tensor(np.array(array)).to(dtype)
        self.register_buffer(name, value, persistent=False)

    @property
    def vertex_count(self) -> int:
        return self.template.shape[0]

    def forward(
        self,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        jaw: Tensor | None = None,
        *,
        neck: Tensor | None = None,
        eyes: Tensor | None = None,
    ) -> HeadMesh:
        """Parameters to a posed mesh (Eq. 4).

        Args:
            shape: [B, ≤S] coefficients; missing trailing modes are 0.
            expression: [B, E] weights.
            jaw, neck: [B, 3] axis-angle, radians.
            eyes: [B, 2, 3] axis-angle of the left and right eye; None: driven by the eyeLook expressions
                where the model has them.
        Returns:
            HeadMesh with [B, V, 3] vertices.
        """
        given = [x for x in (shape, expression, jaw, neck, eyes) if x is not None]
        batch = given[0].shape[0] if given else 1
        like = self.template if not given else given[0]

        def zeros(*size: int) -> Tensor:
            return torch.zeros(batch, *size, dtype=self.template.dtype, device=like.device)

        shape = zeros(self.sizes.shape) if shape is None else shape
        if shape.shape[1] < self.sizes.shape:
            shape = torch.cat([shape, zeros(self.sizes.shape - shape.shape[1])], dim=1)
        expression = zeros(self.sizes.expression) if expression is None else expression
        coefficients = torch.cat([shape, expression], dim=1)

        if eyes is None:
            eyes = zeros(2, 3) if self.eye_drive is None else torch.einsum("be,eij->bij", expression, self.eye_drive)
        rotations = torch.stack(
            [
                zeros(3),
                zeros(3) if neck is None else neck,
                zeros(3) if jaw is None else jaw,
                eyes[:, 0],
                eyes[:, 1],
            ],
            dim=1,
        )
        matrices = rotvec_to_rotmat(rotations)

        rest = self.template + (coefficients @ self.basis.flatten(1)).view(batch, -1, 3)
        if self.pose_basis is not None:
            identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
            pose_feature = (matrices[:, 1:] - identity).flatten(1)
            rest = rest + (pose_feature @ self.pose_basis.flatten(1)).view(batch, -1, 3)
        joints = self.joint_template + (coefficients @ self.joint_basis.flatten(1)).view(batch, -1, 3)
        return HeadMesh(_skin(rest, joints, matrices, self.skinning_weights), joints)

    def restricted_to(self, indices: Tensor) -> HeadModel:
        """The same head with vertices [K] alone, K of thousands: forward returns [B, K, 3]; see `VertexSubset`."""
        part = copy.copy(self)
        part._buffers = dict(self._buffers)
        part.template, part.skinning_weights = self.template[indices], self.skinning_weights[indices]
        part.basis = self.basis[:, indices].contiguous()
        part.pose_basis = None if self.pose_basis is None else self.pose_basis[:, indices].contiguous()
        return part

    def landmarks68(self, vertices: Tensor, yaw: Tensor | None = None, *, position: Tensor | None = None) -> Tensor:
        """The iBUG-68 points; points 0–16 slide along the jaw with yaw as annotators place them.

        Args:
            vertices: [B, V, 3].
            yaw: [B] radians as `Camera.angles`; None: seen from the front.
            position: [V] where each vertex stands in `vertices` when that is a subset (see `VertexSubset`).
        Returns:
            [B, 68, 3].
        """
        row = self._contour_row(vertices, yaw)
        static, contour = self.faces[self.static_faces], self.faces[self.contour_faces[row]]
        if position is not None:
            static, contour = position[static], position[contour]
        return torch.cat(
            [
                on_triangles(vertices, contour, self.contour_barycentrics[row]),
                on_triangles(vertices, static, self.static_barycentrics),
            ],
            dim=1,
        )

    def _contour_row(self, vertices: Tensor, yaw: Tensor | None) -> Tensor:
        if yaw is None:
            yaw = torch.zeros(vertices.shape[0], device=vertices.device)
        row = torch.rad2deg(yaw.detach()).round().long() - self.data.contour_first_yaw
        return row.clamp(0, self.contour_faces.shape[0] - 1)

    def landmarks468(self, vertices: Tensor) -> Tensor:
        """MediaPipe's 468 face-mesh points on this head: [B, V, 3] → [B, 468, 3]; see `mesh468_valid`."""
        corners = self.faces[self.mesh468_faces.clamp(min=0)]
        return on_triangles(vertices, corners, self.mesh468_barycentrics)

    @property
    def mesh468_valid(self) -> Tensor:
        """[468] bool: the points that this head model has."""
        return self.mesh468_faces >= 0

    def posed(self, parameters: FaceParameters, neutral: bool = False) -> np.ndarray:
        """[V, 3] float32, metres, of one face, every tensor [size]; neutral: with a relaxed face."""
        shape = parameters.shape[None]
        with torch.inference_mode():
            mesh = self(shape) if neutral else self(shape, parameters.expression[None], parameters.jaw[None])
        return mesh.vertices[0].numpy()

    def points68(self, vertices: np.ndarray, yaw: float) -> np.ndarray:
        """[68, 3] of one face's vertices [V, 3], as `landmarks68`."""
        return self.landmarks68(torch.from_numpy(vertices)[None], torch.tensor([yaw]))[0].numpy()

    def points468(self, vertices: np.ndarray) -> np.ndarray | None:
        """[468, 3] of one face's vertices [V, 3], NaN where the head has no such point; None where it has none."""
        if self.mesh468_faces is None:
            return None
        points = self.landmarks468(torch.from_numpy(vertices)[None])[0].numpy()
        points[~self.mesh468_valid.cpu().numpy()] = np.nan
        return points

    def clamp_expression(self, expression: Tensor) -> Tensor:
        """Weights brought into the range that the model allows (ARKit: [0, 1]); unchanged for FLAME."""
        return expression if self.expression_range is None else expression.clamp(*self.expression_range)


def on_triangles(vertices: Tensor, corners: Tensor, barycentrics: Tensor) -> Tensor:
    """Points on triangles. Vertices [B, V, 3] at corners [K, 3] or [B, K, 3] with barycentrics alike → [B, K, 3]."""
    # index_select and gather, whose gradients add up in one order; advanced indexing's do not on several threads
    if corners.dim() == 2:
        picked = vertices.index_select(1, corners.flatten()).unflatten(1, corners.shape)
        return torch.einsum("bkcd,kc->bkd", picked, barycentrics)
    picked = vertices.gather(1, corners.flatten(1)[..., None].expand(-1, -1, 3)).unflatten(1, corners.shape[1:])
    return torch.einsum("bkcd,bkc->bkd", picked, barycentrics)


def _skin(rest: Tensor, joints: Tensor, rotations: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning. rest [B, V, 3], joints [B, J, 3], rotations [B, J, 3, 3], weights [V, J] → [B, V, 3]."""
    world_rotation: list[Tensor] = []
    world_offset: list[Tensor] = []
    for joint, parent in enumerate(JOINT_PARENTS):
        rotation = rotations[:, joint]
        # x ↦ R(x − j) + j, then the parent's motion
        offset = joints[:, joint] - torch.einsum("bij,bj->bi", rotation, joints[:, joint])
        if parent >= 0:
            offset = torch.einsum("bij,bj->bi", world_rotation[parent], offset) + world_offset[parent]
            rotation = world_rotation[parent] @ rotation
        world_rotation.append(rotation)
        world_offset.append(offset)
    blended_rotation = torch.einsum("vj,bjmn->bvmn", weights, torch.stack(world_rotation, 1))
    blended_offset = torch.einsum("vj,bjm->bvm", weights, torch.stack(world_offset, 1))
    return torch.einsum("bvmn,bvn->bvm", blended_rotation, rest) + blended_offset
