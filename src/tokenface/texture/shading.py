"""Light on a face, measured from the photo itself: bounded, without colour, as nine harmonics of the normals."""

from __future__ import annotations

import numpy as np
import torch

from tokenface.render.shading import SH_CONSTANTS, sh_basis

BOUND = 0.9
"""Natural logarithm of the strongest light over the mean one that is believed in full, and of the weakest below it;
what is beyond counts a third."""
BEYOND = 0.33
RIDGE = np.array([0.0, 0.3, 0.3, 0.3, 3.0, 3.0, 3.0, 3.0, 3.0])
"""Per cent of the observations that say a band is 0."""
ROUNDS = 4
TOLERANCE = 0.35
"""Natural logarithm beyond which an observation counts less: freckles, beards and shadows are not the light's."""


def log_shading(normals: np.ndarray, brightness: np.ndarray, weights: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    """Logarithm of the light's luminance over its mean, [M] at the normals `everywhere`.

    Args:
        normals: [N, 3] of what the photo shows, camera axes.  brightness: [N] logarithm of luminance over the
            predicted skin's.  weights: [N].  everywhere: [M, 3].
    """
    basis, target = _basis(normals), np.asarray(brightness, np.float64)
    trust = np.asarray(weights, np.float64)
    if trust.sum() < 30:
        return np.zeros(len(everywhere))
    coefficients = np.zeros(9)
    for _ in range(ROUNDS):  # iteratively reweighted least squares
        residual = np.abs(target - basis @ coefficients)
        w = trust * np.minimum(1, TOLERANCE / residual.clip(1e-6)) if coefficients.any() else trust
        system = (basis * w[:, None]).T @ basis + np.diag(RIDGE * 0.01 * w.sum())
        coefficients = np.linalg.solve(system + 1e-9 * np.eye(9), (basis * w[:, None]).T @ target)
    seen = basis @ coefficients
    level = float((seen * trust).sum() / trust.sum())
    found = _basis(everywhere) @ coefficients - level
    believed = found.clip(-BOUND, BOUND)
    return believed + BEYOND * (found - believed).clip(-BOUND, BOUND)


def _basis(normals: np.ndarray) -> np.ndarray:
    """[N, 9] harmonics, the first of them 1."""
    values = sh_basis(torch.from_numpy(np.asarray(normals, np.float64))).numpy()
    return values / np.array(SH_CONSTANTS)
