"""Flattening of a surface patch without flipped triangles: Tutte's embedding, then the symmetric Dirichlet energy.

The optimiser is the local–global scheme with reweighting of Rabinovich et al., "Scalable Locally Injective
Mappings" (2017): every step solves one sparse linear system and stops short of the first triangle that would flip.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import bmat, coo_matrix, csc_matrix, diags
from scipy.sparse.linalg import splu


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Closed loops of boundary vertices of [F, 3] triangles, in the direction of their triangles, longest first."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    _, inverse, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    following = {int(a): int(b) for a, b in edges[count[inverse.ravel()] == 1]}
    loops = []
    while following:
        loop = [min(following)]
        step = following.pop(loop[0])
        while step != loop[0]:
            loop.append(step)
            step = following.pop(step)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def tutte(faces: np.ndarray, count: int, border: np.ndarray, border_uv: np.ndarray) -> np.ndarray:
    """Tutte's embedding of a disc: every inner vertex is the mean of its neighbours.

    Args:
        faces: [F, 3] triangles over `count` vertices, one boundary loop (fill holes first).
        border, border_uv: [K] vertices of that loop and their places [K, 2] on a convex polygon.
    Returns:
        [count, 2].
    """
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    ones = np.ones(len(edges))
    adjacency = coo_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count))
    adjacency = (adjacency + adjacency.T).tocsr()
    laplacian = (diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
    inner = np.setdiff1d(np.arange(count), border)
    uv = np.zeros((count, 2))
    uv[border] = border_uv
    uv[inner] = splu(csc_matrix(laplacian[inner][:, inner])).solve(-laplacian[inner][:, border] @ border_uv)
    return uv


def minimise_distortion(
    uv: np.ndarray,
    faces: np.ndarray,
    rest: np.ndarray,
    *,
    on_axis: np.ndarray,
    iterations: int = 100,
) -> np.ndarray:
    """Bring every triangle near its rest shape, never through zero area.

    Args:
        uv: [N, 2] start with positive triangles.
        faces: [F, 3].
        rest: [F, 3, 2] wanted triangles, counter-clockwise, in the units of the result.
        on_axis: [K] vertices whose u stays 0 (the line of symmetry).
    Returns:
        [N, 2].
    """
    n = len(uv)
    area = _signed_area(rest)
    gradient_x, gradient_y = _gradients(rest)
    rows = np.arange(len(faces))
    columns = faces.ravel()
    d_x = coo_matrix((gradient_x.ravel(), (np.repeat(rows, 3), columns)), (len(faces), n)).tocsr()
    d_y = coo_matrix((gradient_y.ravel(), (np.repeat(rows, 3), columns)), (len(faces), n)).tocsr()
    free = np.setdiff1d(np.arange(2 * n), on_axis)

    def energy(x: np.ndarray) -> float:
        j = np.stack([d_x @ x[:, 0], d_y @ x[:, 0], d_x @ x[:, 1], d_y @ x[:, 1]], axis=1)
        determinant = j[:, 0] * j[:, 3] - j[:, 1] * j[:, 2]
        if determinant.min() <= 0:
            return float("inf")
        square = (j**2).sum(1)
        return float((area * (square + square / determinant**2)).sum())

    current = energy(uv)
    for _ in range(iterations):
        jacobian = np.stack(
            [np.stack([d_x @ uv[:, 0], d_y @ uv[:, 0]], 1), np.stack([d_x @ uv[:, 1], d_y @ uv[:, 1]], 1)], axis=1
        )
        left, s, right = np.linalg.svd(jacobian)
        rotation = left @ right
        s = np.maximum(s, 1e-6)
        slope = np.where(np.abs(s - 1) < 1e-4, 4.0, (s - s**-3) / np.where(np.abs(s - 1) < 1e-4, 1, s - 1))
        weight = left @ (np.sqrt(slope)[:, :, None] * left.transpose(0, 2, 1))
        root = np.sqrt(area)
        blocks, target = [], []
        for i in range(2):
            for gradient, k in ((d_x, 0), (d_y, 1)):
                blocks.append([diags(root * weight[:, i, 0]) @ gradient, diags(root * weight[:, i, 1]) @ gradient])
                wanted = weight[:, i, 0] * rotation[:, 0, k] + weight[:, i, 1] * rotation[:, 1, k]
                target.append(root * wanted)
        system = bmat(blocks, format="csr")[:, free]
        start = uv.T.ravel()[free]
        proximal = 1e-6 * area.mean()
        normal = csc_matrix(system.T @ system + proximal * diags(np.ones(len(free))))
        solution = splu(normal).solve(system.T @ np.concatenate(target) + proximal * start)
        flat = uv.T.ravel().copy()
        flat[free] = solution
        direction = flat.reshape(2, n).T - uv
        step = min(1.0, 0.8 * _largest_step(uv, direction, faces))
        trial = energy(uv + step * direction)
        while not trial < current and step > 1e-8:
            step *= 0.5
            trial = energy(uv + step * direction)
        if step <= 1e-8:
            break
        uv = uv + step * direction
        if current - trial < 1e-6 * current:
            break
        current = trial
    return uv


def _signed_area(triangles: np.ndarray) -> np.ndarray:
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def _gradients(rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the three hat functions of every rest triangle: two arrays [F, 3]."""
    double_area = 2 * _signed_area(rest)[:, None]
    opposite = rest[:, [2, 0, 1]] - rest[:, [1, 2, 0]]
    return -opposite[:, :, 1] / double_area, opposite[:, :, 0] / double_area


def _largest_step(uv: np.ndarray, direction: np.ndarray, faces: np.ndarray) -> float:
    """First step at which a triangle reaches zero area (a quadratic per triangle)."""
    p, d = uv[faces], direction[faces]
    p1, p2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], d[:, 1] - d[:, 0], d[:, 2] - d[:, 0]

    def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    a, b, c = cross(d1, d2), cross(p1, d2) + cross(d1, p2), cross(p1, p2)
    discriminant = b * b - 4 * a * c
    real = discriminant >= 0
    root = np.sqrt(np.where(real, discriminant, 0))
    # the stable pair of roots: q / a and c / q
    q = -0.5 * (b + np.where(b >= 0, 1, -1) * root)
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([q / a, c / q])
    roots = np.where(real[None] & np.isfinite(roots) & (roots > 0), roots, np.inf)
    return float(roots.min())
