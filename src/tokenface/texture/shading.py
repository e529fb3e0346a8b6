"""Photo shading as nine harmonics of the normals: bounded, achromatic, estimated from the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.geometry.harmonics import harmonics

BOUND = 0.9
"""Natural logarithm of the strongest light over the mean one that is believed in full, and of the weakest below it;
what is beyond counts a third."""
BEYOND = 0.33
RIDGE = np.array([0.0, 0.3, 0.3, 0.3, 3.0, 3.0, 3.0, 3.0, 3.0])
"""Per cent of the observations that say a band is 0."""
ROUNDS = 4
TOLERANCE = 0.35
"""Natural logarithm beyond which an observation counts less: freckles, beards and shadows are not the light's."""


@dataclass(frozen=True, eq=False)
class FittedLight:
    """coefficients: [9] of the logarithm of the light's luminance, by `harmonics`.
    level: of it, mean over what the photo shows."""

    coefficients: np.ndarray
    level: float

    def log(self, normals: np.ndarray) -> np.ndarray:
        """[M, 3] unit normals → [M] logarithm of the light over its mean, bounded."""
        found = _basis(normals) @ self.coefficients - self.level
        believed = found.clip(-BOUND, BOUND)
        return believed + BEYOND * (found - believed).clip(-BOUND, BOUND)

    def slope(self, normals: np.ndarray) -> np.ndarray:
        """[M, 3] derivative of it, not bounded, with the normal."""
        x, y, z = np.asarray(normals, np.float64).T
        c = self.coefficients
        return np.stack(
            [
                c[1] + c[4] * y + c[5] * z + 2 * c[7] * x,
                c[2] + c[4] * x + c[6] * z - 2 * c[7] * y,
                c[3] + c[5] * x + c[6] * y + 6 * c[8] * z,
            ],
            axis=1,
        )


def fit_light(normals: np.ndarray, brightness: np.ndarray, weights: np.ndarray) -> FittedLight:
    """Light that explains how bright the skin is.

    Args:
        normals: [N, 3] of what the photo shows, camera axes.  brightness: [N] logarithm of luminance over the
            predicted skin's.  weights: [N].
    """
    basis, target = _basis(normals), np.asarray(brightness, np.float64)
    trust = np.asarray(weights, np.float64)
    coefficients = np.zeros(9)
    if trust.sum() < 30:
        return FittedLight(coefficients, 0.0)
    for _ in range(ROUNDS):  # iteratively reweighted least squares
        residual = np.abs(target - basis @ coefficients)
        w = trust * np.minimum(1, TOLERANCE / residual.clip(1e-6)) if coefficients.any() else trust
        system = (basis * w[:, None]).T @ basis + np.diag(RIDGE * 0.01 * w.sum())
        coefficients = np.linalg.solve(system + 1e-9 * np.eye(9), (basis * w[:, None]).T @ target)
    return FittedLight(coefficients, float((basis @ coefficients * trust).sum() / trust.sum()))


def _basis(normals: np.ndarray) -> np.ndarray:
    """[N, 9] harmonics, the first of them 1."""
    return np.stack(harmonics(*np.asarray(normals, np.float64).T), axis=1)
