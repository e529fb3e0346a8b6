"""Numba back end of `shading.sh_shading` for float32 on CPUs, in one pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenface.core.compiled import kernel, run_over_batch


def sh_shading(normals: Tensor, light: Tensor, constants: tuple[float, ...]) -> Tensor:
    """Normals [B, N, 3], light [B, 9, 3] → [B, N, 3], with gradients to both."""
    factors = torch.tensor(constants, dtype=torch.float32)
    return _Shading.apply(normals.contiguous(), light, factors)


class _Shading(torch.autograd.Function):
    @staticmethod
    def forward(ctx, normals, light, factors):
        scaled = (light * factors[:, None]).contiguous()
        arriving = torch.empty_like(normals)
        run_over_batch(_forward, len(normals), *(a.detach().numpy() for a in (normals, scaled, arriving)))
        ctx.save_for_backward(normals, scaled, factors)
        return arriving

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_arriving):
        normals, scaled, factors = ctx.saved_tensors
        grad_normals, grad_scaled = torch.empty_like(normals), torch.zeros_like(scaled)
        arrays = (normals, scaled, grad_arriving.contiguous(), grad_normals, grad_scaled)
        run_over_batch(_backward, len(normals), *(a.detach().numpy() for a in arrays))
        return grad_normals, grad_scaled * factors[:, None], None


@kernel
def _forward(first, last, normals, light, arriving):
    one, three = np.float32(1), np.float32(3)
    for image in range(first, last):
        for p in range(normals.shape[1]):
            x, y, z = normals[image, p, 0], normals[image, p, 1], normals[image, p, 2]
            for c in range(3):
                arriving[image, p, c] = (
                    light[image, 0, c]
                    + light[image, 1, c] * x
                    + light[image, 2, c] * y
                    + light[image, 3, c] * z
                    + light[image, 4, c] * (x * y)
                    + light[image, 5, c] * (x * z)
                    + light[image, 6, c] * (y * z)
                    + light[image, 7, c] * (x * x - y * y)
                    + light[image, 8, c] * (three * z * z - one)
                )


@kernel
def _backward(first, last, normals, light, grad, grad_normals, grad_light):
    zero, one, two, three, six = np.float32(0), np.float32(1), np.float32(2), np.float32(3), np.float32(6)
    for image in range(first, last):
        sums = np.zeros((9, 3), np.float64)
        for p in range(normals.shape[1]):
            x, y, z = normals[image, p, 0], normals[image, p, 1], normals[image, p, 2]
            gx, gy, gz = zero, zero, zero
            for c in range(3):
                g = grad[image, p, c]
                if g == zero:
                    continue
                gx += g * (
                    light[image, 1, c] + light[image, 4, c] * y + light[image, 5, c] * z + two * light[image, 7, c] * x
                )
                gy += g * (
                    light[image, 2, c] + light[image, 4, c] * x + light[image, 6, c] * z - two * light[image, 7, c] * y
                )
                gz += g * (
                    light[image, 3, c] + light[image, 5, c] * x + light[image, 6, c] * y + six * light[image, 8, c] * z
                )
                sums[0, c] += g
                sums[1, c] += g * x
                sums[2, c] += g * y
                sums[3, c] += g * z
                sums[4, c] += g * x * y
                sums[5, c] += g * x * z
                sums[6, c] += g * y * z
                sums[7, c] += g * (x * x - y * y)
                sums[8, c] += g * (three * z * z - one)
            grad_normals[image, p, 0], grad_normals[image, p, 1], grad_normals[image, p, 2] = gx, gy, gz
        for band in range(9):
            for c in range(3):
                grad_light[image, band, c] = sums[band, c]
