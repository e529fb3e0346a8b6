"""Polynomials of the real spherical harmonics up to the second band, for arrays and tensors alike."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def harmonics(x: T, y: T, z: T) -> tuple[T, T, T, T, T, T, T, T, T]:
    """1, x, y, z, xy, xz, yz, x² − y², 3z² − 1 of unit vectors, without their constants."""
    return x * 0 + 1, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1  # type: ignore[operator, return-value]
