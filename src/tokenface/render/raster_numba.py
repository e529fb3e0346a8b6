"""Numba back end for CPUs: `raster_kernels` behind torch's tensors and gradients.

Torch's gather needs a scatter-add in its backward pass, which on CPU costs more than the rest of the renderer
together; here each image adds its own pixels into its own vertices in one loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenface.core.compiled import run_over_batch
from tokenface.render import raster_arrays
from tokenface.render import raster_kernels as kernels


def triangle_ids(vertices: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    points = vertices.detach().numpy()
    return torch.from_numpy(raster_arrays.triangle_ids(points, faces.numpy(), height, width, cull_backfaces))


def barycentrics(vertices: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """See `raster_torch.barycentrics`."""
    return _Barycentrics.apply(vertices.contiguous(), faces.contiguous(), ids, pixels)


def interpolate(attributes: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """See `raster_torch.interpolate`."""
    batched = attributes if attributes.dim() == 3 else attributes[None]
    return _Interpolate.apply(batched.contiguous(), faces.contiguous(), ids, pixels, weights.contiguous())


class _Barycentrics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, faces, ids, pixels):
        bounds = _image_bounds(ids, pixels)
        weights, depth = vertices.new_empty(len(pixels), 3), vertices.new_empty(len(pixels))
        inputs = [a.detach().numpy() for a in (vertices, faces, ids, bounds)]
        run_over_batch(kernels.barycentrics_forward, ids.shape[0], *inputs, weights.numpy(), depth.numpy())
        ctx.save_for_backward(vertices, faces, ids, bounds, weights)
        return weights, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_weights, grad_depth):
        saved = [a.detach().numpy() for a in ctx.saved_tensors]
        grads = [grad_weights.contiguous().numpy(), grad_depth.contiguous().numpy()]
        grad_vertices = torch.zeros_like(ctx.saved_tensors[0])
        run_over_batch(kernels.barycentrics_backward, len(grad_vertices), *saved, *grads, grad_vertices.numpy())
        return grad_vertices, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, faces, ids, pixels, weights):
        bounds = _image_bounds(ids, pixels)
        images = attributes.new_zeros(*ids.shape, attributes.shape[2])
        inputs = [a.detach().numpy() for a in (attributes, faces, ids, pixels, bounds, weights)]
        run_over_batch(kernels.interpolate_forward, ids.shape[0], *inputs, images.view(-1, attributes.shape[2]).numpy())
        ctx.save_for_backward(attributes, faces, ids, pixels, bounds, weights)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_images):
        attributes, _, ids, _, _, weights = ctx.saved_tensors
        saved = [a.detach().numpy() for a in ctx.saved_tensors]
        grad = grad_images.contiguous().view(-1, attributes.shape[2]).numpy()
        grad_attributes = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_attributes = torch.zeros_like(attributes)
            # attributes shared by the batch: several threads would write to the same rows
            threads = 1 if attributes.shape[0] == 1 else None
            arrays = (*saved, grad, grad_attributes.numpy())
            run_over_batch(kernels.interpolate_backward_attributes, ids.shape[0], *arrays, threads=threads)
        if ctx.needs_input_grad[4]:
            grad_weights = torch.empty_like(weights)
            run_over_batch(kernels.interpolate_backward_weights, ids.shape[0], *saved, grad, grad_weights.numpy())
        return grad_attributes, None, None, None, grad_weights


def _image_bounds(ids: Tensor, pixels: Tensor) -> Tensor:
    return torch.from_numpy(raster_arrays.image_bounds(tuple(ids.shape), pixels.numpy()))
