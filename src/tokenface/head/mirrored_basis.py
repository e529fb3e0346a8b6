"""Symmetric basis on disk: one half of the head and a sign per mode give the other half, bit for bit.

The half lies in byte planes (all first bytes, then all second ones, as HDF5's shuffle filter has them) of x, y and z
apart, which a wheel's compression makes a third smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FLOATS: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4"), 8: np.dtype("<f8")}
"""By the number of byte planes."""
OTHER_SIDE = (-1, 1, 1)
"""x changes its sign from one side of the head to the other."""


def halved(basis: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(planes [B, S, 3, H] uint8, signs [S] int8) of a basis whose modes are all mirrored (+1) or opposite (−1) on the
    two sides; None where `whole` would not give the same bits.

    Args:
        basis: [S, V, 3].  mirror: [V], each vertex's partner; vertices of the middle are their own.
    """
    count = len(mirror)
    if FLOATS.get(basis.itemsize) != basis.dtype or basis.ndim != 3:
        return None
    if basis.shape[1:] != (count, 3) or not ((mirror >= 0) & (mirror < count)).all():
        return None
    if not np.array_equal(mirror[mirror], np.arange(count)):
        return None
    first = _first(mirror)
    pairs = np.flatnonzero(first & (mirror != np.arange(count)))
    reflected = basis[:, mirror[pairs]] * np.array(OTHER_SIDE, basis.dtype)
    signs = np.where((reflected == basis[:, pairs]).all(axis=(1, 2)), 1, -1).astype(np.int8)
    half = np.ascontiguousarray(basis[:, first].transpose(0, 2, 1))
    planes = np.ascontiguousarray(np.moveaxis(half[..., None].view(np.uint8), -1, 0))
    same = whole(planes, signs, mirror).tobytes() == np.ascontiguousarray(basis).tobytes()
    return (planes, signs) if same else None


def whole(planes: np.ndarray, signs: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """[S, V, 3] basis.

    Raises:
        ValueError, IndexError, KeyError: the arrays do not belong together.
    """
    first = _first(mirror)
    half = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(FLOATS[len(planes)])[..., 0]
    if half.shape[1:] != (3, int(first.sum())) or signs.shape != half.shape[:1]:
        raise ValueError(f"half a basis of {half.shape} and {signs.shape} signs do not fit {len(mirror)} vertices")
    bits = np.dtype(f"<u{len(planes)}")
    basis = np.zeros((len(half), len(mirror), 3), bits)
    basis[:, first] = half.view(bits).transpose(0, 2, 1)
    other = ~first
    # a change of sign is a change of the first bit: arithmetic of float16 takes ten times as long
    sign_bit = bits.type(1 << (8 * len(planes) - 1))
    negative = signs[:, None] * np.array(OTHER_SIDE) < 0
    basis[:, other] = basis[:, mirror[other]] ^ np.where(negative, sign_bit, bits.type(0))[:, None]
    return basis.view(half.dtype)


def _first(mirror: np.ndarray) -> np.ndarray:
    """[V] bool: one vertex of each pair, and the middle."""
    return np.asarray(mirror) >= np.arange(len(mirror))
