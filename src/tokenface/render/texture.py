"""Albedo texture: coefficients to a map, and a map to pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenface.errors import HeadModelError
from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel


class HeadAlbedo(nn.Module):
    """The albedo basis of a head model: `map = mean + Σ αᵢ · modeᵢ`, sRGB.

    An int8 basis stays int8 on disk and is held once as float32, each mode already multiplied by its scale, so that
    a batch is one matrix product.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, head: HeadModel | HeadData):
        """Raises HeadModelError when the head model has no albedo basis (FLAME without its texture file)."""
        super().__init__()
        data = head.data if isinstance(head, HeadModel) else head
        if data.albedo_mean is None or data.albedo_basis is None:
            raise HeadModelError(
                f"head model '{data.name}' has no albedo basis; "
                "add it again from its download ('tokenface head add flame PATH'), or use 'openhead'"
            )
        basis = data.albedo_basis
        modes = np.empty((basis.shape[0], 3 * basis.shape[1] * basis.shape[2]), np.float32)
        for i, mode in enumerate(basis):  # one mode at a time: no second float copy of the whole basis
            scale = 1.0 if data.albedo_scale is None else np.float32(data.albedo_scale[i])
            modes[i] = (np.moveaxis(mode, -1, 0).astype(np.float32) * scale).ravel()
        self.resolution = int(data.albedo_mean.shape[0])
        mean = np.moveaxis(np.asarray(data.albedo_mean, np.float32), -1, 0)
        self.register_buffer("mean", torch.from_numpy(np.array(mean)), persistent=False)
        self.register_buffer("basis", torch.from_numpy(modes), persistent=False)

    def forward(self, texture: Tensor, *, clamp: bool = True) -> Tensor:
        """Coefficients [B, ≤A] (missing trailing modes are 0) → albedo maps [B, 3, R, R], sRGB in [0, 1].

        Row 0 is v = 1 (image order). `clamp=False` leaves values as they come, with gradients everywhere.
        """
        modes = self.basis[: texture.shape[1]]
        if texture.shape[1] != len(modes):
            raise ValueError(f"texture has at most {len(self.basis)} coefficients, got {texture.shape[1]}")
        maps = torch.addmm(self.mean.flatten()[None], texture.to(modes.dtype), modes)
        maps = maps.view(-1, *self.mean.shape)
        return maps.clamp(0, 1) if clamp else maps


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Bilinear look-up; a texel's centre lies at ((i + 0.5)/R, 1 − (j + 0.5)/R), borders are repeated.

    Args:
        texture: [B, C, R, R'] (or [1, C, R, R'] for all), row 0 at v = 1.
        uv: [B, H, W, 2] in [0, 1], u right, v up (OBJ's convention).
    Returns:
        [B, C, H, W].
    """
    if texture.shape[0] == 1:
        texture = texture.expand(uv.shape[0], -1, -1, -1)
    grid = torch.stack([uv[..., 0] * 2 - 1, 1 - uv[..., 1] * 2], dim=-1)
    return F.grid_sample(texture, grid.to(texture.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def albedo_at(data: HeadData, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The basis at the texels in the middle of K triangles: mean [K, 3] and modes [A, K, 3], float64, sRGB.

    Raises:
        HeadModelError: the head model has no albedo basis.
    """
    if data.albedo_mean is None or data.albedo_basis is None:
        raise HeadModelError(f"head model '{data.name}' has no albedo basis")
    u, v = data.uv[data.uv_faces[triangles]].mean(1).T
    side = data.albedo_mean.shape[0]
    column, row = (u * side).astype(int).clip(0, side - 1), ((1 - v) * side).astype(int).clip(0, side - 1)
    scale = np.ones(len(data.albedo_basis)) if data.albedo_scale is None else data.albedo_scale.astype(np.float64)
    modes = data.albedo_basis[:, row, column].astype(np.float64) * scale[:, None, None]
    return data.albedo_mean[row, column].astype(np.float64), modes
