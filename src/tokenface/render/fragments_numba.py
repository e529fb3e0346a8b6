"""`fragments_torch` for float32 on CPU: the same formulas in compiled loops, with their gradients written out.

Torch's gather needs a scatter-add in its backward pass, which on CPU costs more than the rest of the renderer
together; here each image adds its own pixels into its own vertices in one loop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokenface.core.compiled import kernel, run_over_batch
from tokenface.render.fragments_torch import MIN_AREA

_MIN_AREA = np.float32(MIN_AREA)


def barycentrics(vertices: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """See `fragments_torch.barycentrics`."""
    return _Barycentrics.apply(vertices.contiguous(), faces.contiguous(), ids, pixels)


def interpolate(attributes: Tensor, faces: Tensor, ids: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """See `fragments_torch.interpolate`."""
    batched = attributes if attributes.dim() == 3 else attributes[None]
    return _Interpolate.apply(batched.contiguous(), faces.contiguous(), ids, pixels, weights.contiguous())


class _Barycentrics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, faces, ids, pixels):
        bounds = _image_bounds(ids, pixels)
        weights, depth = vertices.new_empty(len(pixels), 3), vertices.new_empty(len(pixels))
        inputs = [a.detach().numpy() for a in (vertices, faces, ids, bounds)]
        run_over_batch(_barycentrics_forward, ids.shape[0], *inputs, weights.numpy(), depth.numpy())
        ctx.save_for_backward(vertices, faces, ids, bounds, weights)
        return weights, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_weights, grad_depth):
        saved = [a.detach().numpy() for a in ctx.saved_tensors]
        grads = [grad_weights.contiguous().numpy(), grad_depth.contiguous().numpy()]
        grad_vertices = torch.zeros_like(ctx.saved_tensors[0])
        run_over_batch(_barycentrics_backward, len(grad_vertices), *saved, *grads, grad_vertices.numpy())
        return grad_vertices, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, faces, ids, pixels, weights):
        bounds = _image_bounds(ids, pixels)
        images = attributes.new_zeros(*ids.shape, attributes.shape[2])
        inputs = [a.detach().numpy() for a in (attributes, faces, ids, pixels, bounds, weights)]
        run_over_batch(_interpolate_forward, ids.shape[0], *inputs, images.view(-1, attributes.shape[2]).numpy())
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
            run_over_batch(_interpolate_backward_attributes, ids.shape[0], *arrays, threads=threads)
        if ctx.needs_input_grad[4]:
            grad_weights = torch.empty_like(weights)
            run_over_batch(_interpolate_backward_weights, ids.shape[0], *saved, grad, grad_weights.numpy())
        return grad_attributes, None, None, None, grad_weights


def _image_bounds(ids: Tensor, pixels: Tensor) -> Tensor:
    """[B + 1]: where each image begins in the ascending list of covered pixels."""
    return torch.searchsorted(pixels, torch.arange(ids.shape[0] + 1) * (ids.shape[1] * ids.shape[2]))


@kernel
def _barycentrics_forward(first, last, vertices, faces, ids, bounds, weights, depth):
    height, width = ids.shape[1], ids.shape[2]
    zero, one, tiny = np.float32(0), np.float32(1), np.float32(1e-12)
    half_width, half_height = np.float32(width / 2), np.float32(height / 2)
    for image in range(first, last):
        p = bounds[image]
        for row in range(height):
            offset_y = one - np.float32(2 * row + 1) / np.float32(height)
            for column in range(width):
                triangle = ids[image, row, column]
                if triangle < 0:
                    continue
                offset_x = one - np.float32(2 * column + 1) / np.float32(width)
                v0, v1, v2 = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
                x0 = (vertices[image, v0, 0] + offset_x) * half_width
                x1 = (vertices[image, v1, 0] + offset_x) * half_width
                x2 = (vertices[image, v2, 0] + offset_x) * half_width
                y0 = (vertices[image, v0, 1] + offset_y) * half_height
                y1 = (vertices[image, v1, 1] + offset_y) * half_height
                y2 = (vertices[image, v2, 1] + offset_y) * half_height
                a0, a1, a2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
                total = a0 + a1 + a2
                inverse = one / total if total != zero else one
                w0, w1, w2 = max(a0 * inverse, zero), max(a1 * inverse, zero), max(a2 * inverse, zero)
                norm = one / max(w0 + w1 + w2, tiny)
                w0, w1, w2 = w0 * norm, w1 * norm, w2 * norm
                weights[p, 0], weights[p, 1], weights[p, 2] = w0, w1, w2
                depth[p] = w0 * vertices[image, v0, 2] + w1 * vertices[image, v1, 2] + w2 * vertices[image, v2, 2]
                p += 1


@kernel
def _barycentrics_backward(first, last, vertices, faces, ids, bounds, weights, grad_weights, grad_depth, out):
    height, width = ids.shape[1], ids.shape[2]
    zero, one = np.float32(0), np.float32(1)
    half_width, half_height = np.float32(width / 2), np.float32(height / 2)
    for image in range(first, last):
        p = bounds[image] - 1
        for row in range(height):
            offset_y = one - np.float32(2 * row + 1) / np.float32(height)
            for column in range(width):
                triangle = ids[image, row, column]
                if triangle < 0:
                    continue
                p += 1
                offset_x = one - np.float32(2 * column + 1) / np.float32(width)
                v0, v1, v2 = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
                w0, w1, w2, gd = weights[p, 0], weights[p, 1], weights[p, 2], grad_depth[p]
                out[image, v0, 2] += gd * w0
                out[image, v1, 2] += gd * w1
                out[image, v2, 2] += gd * w2

                x0 = (vertices[image, v0, 0] + offset_x) * half_width
                x1 = (vertices[image, v1, 0] + offset_x) * half_width
                x2 = (vertices[image, v2, 0] + offset_x) * half_width
                y0 = (vertices[image, v0, 1] + offset_y) * half_height
                y1 = (vertices[image, v1, 1] + offset_y) * half_height
                y2 = (vertices[image, v2, 1] + offset_y) * half_height
                a0, a1, a2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
                total = a0 + a1 + a2
                if abs(total) < _MIN_AREA:
                    continue
                # weights = c / Σc with c = max(r, 0) and r = a / Σa
                inverse = one / total
                r0, r1, r2 = a0 * inverse, a1 * inverse, a2 * inverse
                norm = one / (max(r0, zero) + max(r1, zero) + max(r2, zero))
                g0 = grad_weights[p, 0] + gd * vertices[image, v0, 2]
                g1 = grad_weights[p, 1] + gd * vertices[image, v1, 2]
                g2 = grad_weights[p, 2] + gd * vertices[image, v2, 2]
                mean = g0 * w0 + g1 * w1 + g2 * w2
                g0 = (g0 - mean) * norm if r0 >= zero else zero
                g1 = (g1 - mean) * norm if r1 >= zero else zero
                g2 = (g2 - mean) * norm if r2 >= zero else zero
                mean = g0 * r0 + g1 * r1 + g2 * r2
                g0, g1, g2 = (g0 - mean) * inverse, (g1 - mean) * inverse, (g2 - mean) * inverse
                out[image, v0, 0] += (y1 * g2 - y2 * g1) * half_width
                out[image, v0, 1] += (x2 * g1 - x1 * g2) * half_height
                out[image, v1, 0] += (y2 * g0 - y0 * g2) * half_width
                out[image, v1, 1] += (x0 * g2 - x2 * g0) * half_height
                out[image, v2, 0] += (y0 * g1 - y1 * g0) * half_width
                out[image, v2, 1] += (x1 * g0 - x0 * g1) * half_height


@kernel
def _interpolate_forward(first, last, attributes, faces, ids, pixels, bounds, weights, images):
    flat = ids.reshape(-1)
    for image in range(first, last):
        table = attributes[min(image, attributes.shape[0] - 1)]
        for p in range(bounds[image], bounds[image + 1]):
            face = faces[flat[pixels[p]]]
            v0, v1, v2 = face[0], face[1], face[2]
            w0, w1, w2 = weights[p, 0], weights[p, 1], weights[p, 2]
            for c in range(attributes.shape[2]):
                images[pixels[p], c] = w0 * table[v0, c] + w1 * table[v1, c] + w2 * table[v2, c]


@kernel
def _interpolate_backward_attributes(
    first, last, attributes, faces, ids, pixels, bounds, weights, grad_images, grad_attributes
):
    flat = ids.reshape(-1)
    for image in range(first, last):
        table = grad_attributes[min(image, attributes.shape[0] - 1)]
        for p in range(bounds[image], bounds[image + 1]):
            face = faces[flat[pixels[p]]]
            for k in range(3):
                for c in range(attributes.shape[2]):
                    table[face[k], c] += weights[p, k] * grad_images[pixels[p], c]


@kernel
def _interpolate_backward_weights(
    first, last, attributes, faces, ids, pixels, bounds, weights, grad_images, grad_weights
):
    flat = ids.reshape(-1)
    for image in range(first, last):
        table = attributes[min(image, attributes.shape[0] - 1)]
        for p in range(bounds[image], bounds[image + 1]):
            face = faces[flat[pixels[p]]]
            for k in range(3):
                total = np.float32(0)
                for c in range(attributes.shape[2]):
                    total += table[face[k], c] * grad_images[pixels[p], c]
                grad_weights[p, k] = total
