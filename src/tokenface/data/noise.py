"""Tileable noise textures, drawn once from a seed: strands, curls, cloth, blotches. Values centre on 0, std 1."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SIZE = 128
LAYERS = (
    "fractal", "fractal_fine", "fractal_coarse", "grain",
    "strands", "strands_fine", "strands_wavy", "curls",
    "weave", "stripes", "checks", "spots",
)  # fmt: skip


def noise_bank(seed: int = 0) -> Tensor:
    """[len(LAYERS), SIZE, SIZE] float32; rows run along the second texture coordinate (a hair's length)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    wavy = _spectrum(rng, 2.0)
    layers = {
        "fractal": _spectrum(rng, 1.5),
        "fractal_fine": _spectrum(rng, 0.9),
        "fractal_coarse": _spectrum(rng, 2.2),
        "grain": _spectrum(rng, 0.1),
        "strands": _spectrum(rng, 0.8, stretch=40),
        "strands_fine": _spectrum(rng, 0.6, stretch=80),
        "strands_wavy": _warp(_spectrum(rng, 0.8, stretch=30), 5 * wavy),
        "curls": np.abs(_spectrum(rng, 1.1)) - _spectrum(rng, 0.6) * 0.4,
        "weave": np.sin(2 * np.pi * 16 * x) * np.sin(2 * np.pi * 16 * y) + 0.4 * _spectrum(rng, 0.5),
        "stripes": np.sign(np.sin(2 * np.pi * 4 * x)) + 0.15 * _spectrum(rng, 0.8),
        "checks": np.sign(np.sin(2 * np.pi * 4 * x)) + np.sign(np.sin(2 * np.pi * 4 * y)),
        "spots": (_spectrum(rng, 1.4) > 1.0).astype(float),
    }
    bank = np.stack([layers[name] for name in LAYERS])
    bank = (bank - bank.mean((1, 2), keepdims=True)) / bank.std((1, 2), keepdims=True)
    return torch.from_numpy(np.clip(bank, -3, 3).astype(np.float32))


def sample_noise(bank: Tensor, layer: int | Tensor, coordinates: Tensor) -> Tensor:
    """Bilinear look-up with wrap-around.

    Args:
        bank: [L, SIZE, SIZE].  layer: one for all, or [N] int64.  coordinates: [2, N], one period per unit.
    Returns:
        [N].
    """
    position = coordinates * SIZE
    corner = position.floor()
    x, y = position - corner
    left, top = corner.int() & (SIZE - 1)  # SIZE is a power of two
    right, bottom = (left + 1) & (SIZE - 1), ((top + 1) & (SIZE - 1)) * SIZE
    top = top * SIZE
    flat = bank.view(-1)
    if isinstance(layer, int):
        flat = flat[layer * SIZE * SIZE :]
    else:
        start = (layer * (SIZE * SIZE)).int()
        top, bottom = top + start, bottom + start
    upper = torch.lerp(flat.index_select(0, top + left), flat.index_select(0, top + right), x)
    lower = torch.lerp(flat.index_select(0, bottom + left), flat.index_select(0, bottom + right), x)
    return torch.lerp(upper, lower, y)


def _spectrum(rng: np.random.Generator, power: float, stretch: float = 1.0) -> np.ndarray:
    """White noise with a 1/f^power spectrum; stretch > 1 draws it out along the rows' direction."""
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch
    fx = np.fft.fftfreq(SIZE)[None, :] * SIZE
    radius = np.sqrt(fx * fx + fy * fy)
    radius[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) / np.maximum(radius, 1.0) ** power).real
    return (field - field.mean()) / field.std()


def _warp(field: np.ndarray, shift: np.ndarray) -> np.ndarray:
    columns = (np.arange(SIZE)[None, :] + np.rint(shift).astype(int)) % SIZE
    return field[np.arange(SIZE)[:, None], columns]
