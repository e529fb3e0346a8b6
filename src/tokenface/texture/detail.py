"""Displacement and normal map from a photo's shading: shape from shading, linear about the fitted mesh.

What a photo shows beyond the smooth field of its colours is read as relief h (metres) along the normals. To first order
the logarithm of the shading changes by `−a · ∇h`, a being the light's slope over the surface, and, since folds see less
of the surroundings, by `h / OCCLUSION`. The relief is the least-squares solution of

    Σ w (d + a · ∇h − h / OCCLUSION)²  +  STIFF Σ |∇h|²

over the texels, d being the photo's detail. It is detail of this photo, light and make-up included, not a scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import cg

from tokenface.formats.mesh import png_bytes
from tokenface.geometry.smoothstep import smoothstep
from tokenface.texture.layout import Texels

OCCLUSION = 0.0012
"""Metres of depth that darken a fold by a factor of e."""
STIFF = 0.02
"""Weight of flatness, per unit of slope squared."""
BAND = 0.006
"""Metres: wider variations are the mesh's or the light's."""
DARK = (0.4, 0.9)
"""Natural logarithm of a variation from which it is not believed to be relief, and from which it surely is none."""
DEEPEST = 0.0015
"""Metres that the relief may rise or fall."""
STEP = 1e-7
"""Metres a step of a written displacement."""
ITERATIONS = 120


@dataclass(frozen=True, eq=False)
class DetailMaps:
    """displacement: [R, R] float32, metres along the normals, 0 where nothing is known.
    normals: [R, R, 3] uint8, tangent space as glTF has it: x with u, y with v, z out; (128, 128, 255) is flat."""

    displacement: np.ndarray
    normals: np.ndarray

    def files(self, stem: str) -> dict[str, bytes]:
        """PNGs by name: `<stem>_normal.png`, and `<stem>_displacement.png` of 16 bits, 0.1 µm a step about 32,768."""
        steps = np.rint(self.displacement / STEP + 32_768).clip(0, 65_535).astype(np.uint16)
        return {f"{stem}_normal.png": png_bytes(self.normals), f"{stem}_displacement.png": png_bytes(steps)}


def detail_maps(
    texels: Texels, vertices: np.ndarray, detail: np.ndarray, weight: np.ndarray, shade_slope: np.ndarray
) -> DetailMaps:
    """Relief of N texels.

    Args:
        vertices: [V, 3] metres.  detail: [N] logarithm of luminance beyond its smooth part.  weight: [N] in [0, 1].
        shade_slope: [N, 3] derivative of the logarithm of the light with the normal, head space.
    """
    step_u, step_v = _steps(texels, vertices)
    lengths = np.linalg.norm(step_u, axis=1), np.linalg.norm(step_v, axis=1)
    texel = float(np.median(lengths[0][weight > 0.5])) if (weight > 0.5).any() else float(np.median(lengths[0]))
    band = _band(texels, detail, weight, BAND / max(texel, 1e-6))
    weight = weight * (1 - smoothstep(np.abs(band), *DARK))  # stubble and hair are no folds
    across, along = _differences(texels, lengths)
    # a tilt of the normal is −∇h; the unit directions of the layout carry it to head space
    slopes = [
        (shade_slope * step).sum(1) / length.clip(1e-9) for step, length in zip((step_u, step_v), lengths, strict=True)
    ]
    shading = diags(-slopes[0]) @ across + diags(-slopes[1]) @ along + diags(np.full(len(detail), 1 / OCCLUSION))
    trust = diags(weight)
    flat = across.T @ across + along.T @ along
    system = shading.T @ trust @ shading + STIFF * flat + diags((1 - weight) / OCCLUSION**2 + 1e-6)
    relief, _ = cg(system.tocsr(), shading.T @ (weight * band), maxiter=ITERATIONS, rtol=1e-4)
    relief = DEEPEST * np.tanh(relief / DEEPEST)
    tilt_u, tilt_v = across @ relief, along @ relief
    normal = np.stack([-tilt_u, -tilt_v, np.ones_like(tilt_u)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    image = np.full((texels.size, texels.size, 3), (128, 128, 255), np.uint8)
    image[texels.covered] = np.rint(normal * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    return DetailMaps(texels.map(relief.astype(np.float32)), image)


def _band(texels: Texels, detail: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
    """Detail without what is wider than `width` texels, means taken over what has a weight."""
    values, mass = (cv2.GaussianBlur(texels.map(v), (0, 0), width) for v in (detail * weight, weight))
    return detail - (values / mass.clip(1e-4))[texels.covered]


def _steps(texels: Texels, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] metres that one texel to the right (u) and one up (v) is on the head."""
    data = texels.data
    a, b, c = (np.asarray(data.uv, np.float64)[np.asarray(data.uv_faces)[:, k]] for k in range(3))
    p, q, r = (np.asarray(vertices, np.float64)[np.asarray(data.faces)[:, k]] for k in range(3))
    (e1, e2), (f1, f2) = (b - a, c - a), (q - p, r - p)
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    inverse = np.where(np.abs(area) > 1e-12, 1 / np.where(area == 0, 1, area), 0)[:, None]
    along_u = (f1 * e2[:, 1:] - f2 * e1[:, 1:]) * inverse
    along_v = (f2 * e1[:, :1] - f1 * e2[:, :1]) * inverse
    count = len(data.template)
    mean = []
    for derivative in (along_u, along_v):
        total, times = np.zeros((count, 3)), np.zeros(count)
        for k in range(3):
            np.add.at(total, data.faces[:, k], derivative)
            np.add.at(times, data.faces[:, k], 1)
        mean.append(texels.at(total / times[:, None].clip(1)) / texels.size)
    return mean[0], mean[1]


def _differences(texels: Texels, lengths: tuple[np.ndarray, np.ndarray]) -> tuple[csr_matrix, csr_matrix]:
    """[N, N] slopes of a map of the texels to the right and upwards; 0 at the border of the layout."""
    number = np.full(texels.covered.shape, -1)
    count = int(texels.covered.sum())
    number[texels.covered] = np.arange(count)
    matrices = []
    for shift, length in (((0, 1), lengths[0]), ((-1, 0), lengths[1])):
        neighbour = np.full_like(number, -1)
        if shift == (0, 1):
            neighbour[:, :-1] = number[:, 1:]
        else:
            neighbour[1:] = number[:-1]
        other = neighbour[texels.covered]
        rows = np.flatnonzero(other >= 0)
        value = 1 / length[rows].clip(1e-6)
        matrices.append(
            coo_matrix(
                (np.concatenate([value, -value]), (np.concatenate([rows, rows]), np.concatenate([other[rows], rows]))),
                shape=(count, count),
            ).tocsr()
        )
    return matrices[0], matrices[1]
