"""Numba loops of the rasteriser for CPUs, on arrays: nearest triangles, and attributes of covered pixels with their
gradients written out."""

from __future__ import annotations

import numpy as np

from tokenface.core.compiled import kernel

# Numba keeps compiled code until this file itself changes; so the constants of its loops are here.
SUBPIXEL_BITS = 12
SUBPIXEL = 1 << SUBPIXEL_BITS  # grid steps per pixel
DEPTH_STEPS = 1 << 30  # grid steps between the nearest and the farthest vertex of an image
DEPTH_FRACTION_BITS = 16  # extra bits of the depth plane, so that its slope does not drift across a large triangle
SLOPE_LIMIT = float(1 << 47)  # of edge-on triangles; beyond it the plane is clamped to the triangle's own range
GUARD_PIXELS = 1 << 14  # a triangle with a vertex farther out is dropped: its edge functions could overflow int64
OFF_GRID = -(1 << 30)  # x of a vertex that is not finite or lies outside the guard band
MIN_AREA = 1e-3
"""Pixels², doubled area: a triangle seen more edge-on gets no gradient to x and y, which would grow as 1 / area."""

_HALF = SUBPIXEL // 2
_FRACTION = float(1 << DEPTH_FRACTION_BITS)
_BASE_LIMIT = SLOPE_LIMIT * SUBPIXEL
_FAR = np.int32(2**31 - 1)
_MIN_AREA = np.float32(MIN_AREA)


@kernel
def _snap(vertices, height, width, grid):
    """`fixed_point.snap_vertices` of one image, the same arithmetic in the same order: [V, 3] → grid [V, 3] int64."""
    nearest, farthest = np.inf, -np.inf
    for v in range(vertices.shape[0]):
        x = (np.float64(vertices[v, 0]) + 1.0) * (width * 0.5)
        y = (np.float64(vertices[v, 1]) + 1.0) * (height * 0.5)
        z = np.float64(vertices[v, 2])
        if abs(x) < GUARD_PIXELS and abs(y) < GUARD_PIXELS and abs(z) < np.inf:
            grid[v, 0] = np.int64(np.floor(x * SUBPIXEL + 0.5))
            grid[v, 1] = np.int64(np.floor(y * SUBPIXEL + 0.5))
            nearest, farthest = min(nearest, z), max(farthest, z)
        else:
            grid[v, 0] = OFF_GRID
    extent = max(farthest - nearest, 1e-30)
    for v in range(vertices.shape[0]):
        if grid[v, 0] > OFF_GRID:
            z = (np.float64(vertices[v, 2]) - nearest) / extent * DEPTH_STEPS
            grid[v, 2] = np.int64(np.floor(z + 0.5))


@kernel
def rasterize_images(first, last, vertices, faces, ids, cull_backfaces):
    """`fixed_point.triangle_setup` and the loops of `raster_torch`, fused; the arithmetic is the same, in order."""
    height, width = ids.shape[1], ids.shape[2]
    nearest = np.empty((height, width), np.int32)
    grid = np.empty((vertices.shape[1], 3), np.int64)
    for image in range(first, last):
        _snap(vertices[image], height, width, grid)
        ids[image] = -1
        nearest[:] = _FAR
        for triangle in range(faces.shape[0]):
            v0, v1, v2 = faces[triangle, 0], faces[triangle, 1], faces[triangle, 2]
            xa, ya, za = grid[v0, 0], grid[v0, 1], grid[v0, 2]
            xb, yb, zb = grid[v1, 0], grid[v1, 1], grid[v1, 2]
            xc, yc, zc = grid[v2, 0], grid[v2, 1], grid[v2, 2]
            if xa <= OFF_GRID or xb <= OFF_GRID or xc <= OFF_GRID:
                continue
            left = max((min(xa, xb, xc) - _HALF + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
            right = min((max(xa, xb, xc) - _HALF) >> SUBPIXEL_BITS, width - 1)
            if left > right:
                continue
            top = max((min(ya, yb, yc) - _HALF + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
            bottom = min((max(ya, yb, yc) - _HALF) >> SUBPIXEL_BITS, height - 1)
            if top > bottom:
                continue
            area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
            if area == 0 or (cull_backfaces and area > 0):
                continue

            cx, cy = left * SUBPIXEL + _HALF, top * SUBPIXEL + _HALF
            sign = 1 if area > 0 else -1
            dxa, dya = sign * (xc - xb), sign * (yc - yb)
            dxb, dyb = sign * (xa - xc), sign * (ya - yc)
            dxc, dyc = sign * (xb - xa), sign * (yb - ya)
            edge_a = dxa * (cy - yb) - dya * (cx - xb)
            edge_b = dxb * (cy - yc) - dyb * (cx - xc)
            edge_c = dxc * (cy - ya) - dyc * (cx - xa)
            if not (dya < 0 or (dya == 0 and dxa > 0)):
                edge_a -= 1
            if not (dyb < 0 or (dyb == 0 and dxb > 0)):
                edge_b -= 1
            if not (dyc < 0 or (dyc == 0 and dxc > 0)):
                edge_c -= 1
            dxa, dya = dxa * SUBPIXEL, -dya * SUBPIXEL
            dxb, dyb = dxb * SUBPIXEL, -dyb * SUBPIXEL
            dxc, dyc = dxc * SUBPIXEL, -dyc * SUBPIXEL

            divisor = np.float64(area)
            slope_x = np.float64((zb - za) * (yc - ya) - (zc - za) * (yb - ya)) / divisor * _FRACTION
            slope_y = np.float64((zc - za) * (xb - xa) - (zb - za) * (xc - xa)) / divisor * _FRACTION
            base = slope_x * np.float64(cx - xa) + slope_y * np.float64(cy - ya)
            base = base + np.float64(za) * _FRACTION
            depth_row = np.int64(np.floor(min(max(base, -_BASE_LIMIT), _BASE_LIMIT)))
            depth_dx = np.int64(np.floor(min(max(slope_x * SUBPIXEL, -SLOPE_LIMIT), SLOPE_LIMIT)))
            depth_dy = np.int64(np.floor(min(max(slope_y * SUBPIXEL, -SLOPE_LIMIT), SLOPE_LIMIT)))
            depth_min, depth_max = min(za, zb, zc), max(za, zb, zc)

            for row in range(top, bottom + 1):
                ea, eb, ec, depth = edge_a, edge_b, edge_c, depth_row
                entered = False
                for column in range(left, right + 1):
                    if (ea | eb | ec) >= 0:  # no sign bit set: inside all three edges
                        entered = True
                        z = min(max(depth >> DEPTH_FRACTION_BITS, depth_min), depth_max)
                        if z < nearest[row, column]:
                            nearest[row, column] = z
                            ids[image, row, column] = triangle
                    elif entered:
                        break
                    ea += dya
                    eb += dyb
                    ec += dyc
                    depth += depth_dx
                edge_a += dxa
                edge_b += dxb
                edge_c += dxc
                depth_row += depth_dy


@kernel
def barycentrics_forward(first, last, vertices, faces, ids, bounds, weights, depth):
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
def barycentrics_backward(first, last, vertices, faces, ids, bounds, weights, grad_weights, grad_depth, out):
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
def interpolate_forward(first, last, attributes, faces, ids, pixels, bounds, weights, images):
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
def interpolate_backward_attributes(
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
def interpolate_backward_weights(
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
