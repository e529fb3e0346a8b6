"""Dense correspondence between two head models: registered once per pair, cached on disk."""

from __future__ import annotations

import io
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.core.files import write_atomically
from tokenface.errors import HeadModelError, OutputError
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head.data import HeadData
from tokenface.head.registration import NORMAL_WEIGHT, Layers, register
from tokenface.head.registry import data_folder
from tokenface.head.transfer import closest_on_surface

VERSION = 1
"""Of the way in which the map is made; part of the file's name, so that old files are not read."""
NEAR = 0.004
"""Metres between the two surfaces at which a place is trusted e^(−1/2) as much as one that touches."""

logger = logging.getLogger("tokenface")


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Places on a source head for all V vertices of a target head.

    corners: [V, 3] source vertices.  barycentrics: [V, 3].  trust: [V] in [0, 1]: 0 where the heads have no such
    place in common (mouth, sockets), less where the registered surfaces lie apart or face different ways.
    """

    corners: np.ndarray
    barycentrics: np.ndarray
    trust: np.ndarray

    def carry(self, values: np.ndarray) -> np.ndarray:
        """Values at the source's vertices [..., V', C] → at the target's [..., V, C]."""
        return np.einsum("...vkc,vk->...vc", values[..., self.corners, :], self.barycentrics)


def correspondence(target: HeadData, source: HeadData) -> Correspondence:
    """The map between two head models, from disk where it was made before.

    The head with fewer vertices stays, the other is laid on it; both directions come from this one registration, so
    that they are inverse to each other up to the closest-point projection.

    Raises:
        HeadModelError: the two heads cannot be laid onto each other.
    """
    if target.geometry_hash() == source.geometry_hash():
        return _identity(target)
    fixed, laid = sorted((target, source), key=lambda head: (len(head.template), head.geometry_hash()))
    path = _path(fixed, laid)
    arrays = _read(path, fixed, laid)
    if arrays is None:
        arrays = _registered(fixed, laid)
        _keep(path, arrays)
    side = "laid" if target is laid else "fixed"
    return Correspondence(*(arrays[f"{side}_{name}"] for name in ("corners", "barycentrics", "trust")))


def correspondence_folder() -> Path:
    """Where the maps are kept: below the folder of the user's own models."""
    return data_folder() / "correspondences"


def _path(fixed: HeadData, laid: HeadData) -> Path:
    return correspondence_folder() / f"v{VERSION}_{fixed.geometry_hash()}_{laid.geometry_hash()}.npz"


def _identity(head: HeadData) -> Correspondence:
    count = len(head.template)
    corners = np.repeat(np.arange(count)[:, None], 3, axis=1)
    barycentrics = np.tile(np.array([1.0, 0.0, 0.0]), (count, 1))
    return Correspondence(corners, barycentrics, np.ones(count))


def _registered(fixed: HeadData, laid: HeadData) -> dict[str, np.ndarray]:
    moved = register(laid, fixed)
    if not np.isfinite(moved).all():
        raise HeadModelError(f"'{laid.name}' cannot be laid onto '{fixed.name}'; are its landmarks right?")
    still = fixed.template.astype(np.float64)
    arrays: dict[str, np.ndarray] = {}
    for side, own, points, other, surface in (
        ("laid", laid, moved, fixed, still),
        ("fixed", fixed, still, laid, moved),
    ):
        found = _places(own, points, other, surface)
        arrays |= {f"{side}_{name}": array for name, array in found.items()}
    return arrays


def _places(own: HeadData, points: np.ndarray, other: HeadData, surface: np.ndarray) -> dict[str, np.ndarray]:
    """The closest places of the other's surface, layer by layer (skin on skin, each eye on its eye)."""
    corners = np.zeros((len(points), 3), np.int32)
    barycentrics = np.tile(np.array([1.0, 0.0, 0.0], np.float32), (len(points), 1))
    trust = np.zeros(len(points), np.float32)
    normals, other_normals = mesh_normals(points, own.faces), mesh_normals(surface, other.faces)
    theirs = dict(Layers.of(other).items())
    for name, mine in Layers.of(own).items():
        triangles = np.flatnonzero(theirs[name][other.faces].all(1))
        wanted = np.flatnonzero(mine)
        if not len(triangles) or not len(wanted):
            continue
        # shifted along their normals, opposite surfaces (upper and lower lip) lie apart although they touch
        shifted = surface + NORMAL_WEIGHT * other_normals
        start = points[wanted] + NORMAL_WEIGHT * normals[wanted]
        nearest, weights = closest_on_surface(start, shifted, other.faces[triangles])
        chosen = other.faces[triangles[nearest]]
        corners[wanted], barycentrics[wanted] = chosen, weights
        place = np.einsum("vkc,vk->vc", surface[chosen], weights)
        facing = (np.einsum("vkc,vk->vc", other_normals[chosen], weights) * normals[wanted]).sum(1).clip(0)
        apart = np.linalg.norm(place - points[wanted], axis=1)
        trust[wanted] = np.exp(-0.5 * (apart / NEAR) ** 2) * facing
    for region in ("mouth_interior", "left_socket", "right_socket", "mouth_socket", "boundary"):
        trust[own.regions.get(region, np.empty(0, int))] = 0
    return {"corners": corners, "barycentrics": barycentrics, "trust": trust}


def _read(path: Path, fixed: HeadData, laid: HeadData) -> dict[str, np.ndarray] | None:
    """The arrays of a file of ours; None where there is none, or a damaged one."""
    try:
        with open_arrays(path) as file:
            arrays = {name: file[name] for name in file.files}
        for side, own, other in (("laid", laid, fixed), ("fixed", fixed, laid)):
            count, corners = len(own.template), arrays[f"{side}_corners"]
            fits = corners.shape == (count, 3) and arrays[f"{side}_barycentrics"].shape == (count, 3)
            if not (fits and arrays[f"{side}_trust"].shape == (count,) and corners.min() >= 0):
                return None
            if corners.max() >= len(other.template):
                return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(path, buffer.getvalue())
    except OutputError as error:  # it is only a cache
        logger.info("%s", error)
