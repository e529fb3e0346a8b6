"""Vertex normals, area-weighted: `Σ (b − a) × (c − a)` over a vertex's triangles, normalised.

`vertex_normals` for batches of torch tensors, with gradients; `mesh_normals` has NumPy's for one mesh.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tokenface.core.compiled import kernel, run_over_batch


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals that point outwards where triangles run counter-clockwise seen from outside.

    Args:
        vertices: [B, V, 3], right-handed space, any unit.
        faces: [F, 3] integer indices.
    Returns:
        [B, V, 3]; zero at a vertex without triangles (or with degenerate ones only).
    """
    if vertices.dim() != 3 or vertices.shape[2] != 3:
        raise ValueError(f"vertices are [B, V, 3], got {tuple(vertices.shape)}")
    faces = faces.to(vertices.device, torch.int64)
    if vertices.device.type == "cpu" and vertices.dtype == torch.float32:
        sums = _CrossSums.apply(vertices.contiguous(), faces.contiguous())
    else:
        sums = _cross_sums(vertices, faces)
    return F.normalize(sums, dim=-1, eps=1e-20)


def _cross_sums(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = vertices.index_select(1, faces.flatten()).view(len(vertices), -1, 3, 3)
    cross = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    return torch.zeros_like(vertices).index_add(1, faces.T.flatten(), cross.repeat(1, 3, 1))


class _CrossSums(torch.autograd.Function):
    """`_cross_sums` in compiled loops for CPU, where scatter-adds of torch take ten times as long."""

    @staticmethod
    def forward(ctx, vertices, faces):
        sums = torch.zeros_like(vertices)
        arrays = (a.detach().numpy() for a in (vertices, faces, sums))
        run_over_batch(_cross_sums_forward, len(vertices), *arrays)
        ctx.save_for_backward(vertices, faces)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_sums):
        vertices, faces = ctx.saved_tensors
        grad = torch.zeros_like(vertices)
        arrays = (a.detach().numpy() for a in (vertices, faces, grad_sums.contiguous(), grad))
        run_over_batch(_cross_sums_backward, len(vertices), *arrays)
        return grad, None


@kernel
def _cross_sums_forward(first, last, vertices, faces, sums):
    for image in range(first, last):
        v, out = vertices[image], sums[image]
        for triangle in range(faces.shape[0]):
            i, j, k = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
            ax, ay, az = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1], v[j, 2] - v[i, 2]
            bx, by, bz = v[k, 0] - v[i, 0], v[k, 1] - v[i, 1], v[k, 2] - v[i, 2]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            for corner in (i, j, k):
                out[corner, 0] += nx
                out[corner, 1] += ny
                out[corner, 2] += nz


@kernel
def _cross_sums_backward(first, last, vertices, faces, grad_sums, grad):
    e1, e2, g = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    for image in range(first, last):
        for triangle in range(faces.shape[0]):
            i, j, k = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
            for c in range(3):
                e1[c] = vertices[image, j, c] - vertices[image, i, c]
                e2[c] = vertices[image, k, c] - vertices[image, i, c]
                g[c] = grad_sums[image, i, c] + grad_sums[image, j, c] + grad_sums[image, k, c]
            for c in range(3):  # n = e1 × e2: ∂/∂e1 = e2 × g, ∂/∂e2 = g × e1
                d, e = (c + 1) % 3, (c + 2) % 3
                to_j = e2[d] * g[e] - e2[e] * g[d]
                to_k = g[d] * e1[e] - g[e] * e1[d]
                grad[image, j, c] += to_j
                grad[image, k, c] += to_k
                grad[image, i, c] -= to_j + to_k
