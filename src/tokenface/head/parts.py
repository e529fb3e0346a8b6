"""Separate meshes of a head in files, outside of the head model: eyes, teeth, tongue.

A part stands on the mean head where a piece of the head model is (its source vertices), and follows that piece by the
affine map that fits it best: a linear function of the source vertices, exact wherever they move affinely.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from tokenface.errors import HeadModelError
from tokenface.head.data import HeadData
from tokenface.head.registry import shipped_folder

FORMAT = "tokenface-parts-1"
TONGUE = "tongue"
IRIS = 20.5
"""Degrees from an eyeball's gaze axis to the rim of its iris."""


@dataclass(frozen=True)
class PartShape:
    """One part. N vertices, K source vertices.

    vertices: [N, 3] on the mean head, metres.  faces: [F, 3].  uv: [N, 2], v up.  source: [K] head-model vertices.
    follow: [N, K], rows sum to 1; places of the part = follow @ places of the source.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    source: np.ndarray
    follow: np.ndarray


@dataclass(frozen=True)
class HeadParts:
    """shapes: eyes, rows of teeth and the tongue.  tongue_out: [V, 3] displacement of the head model at tongueOut = 1.
    skin_faces: [S] triangles of the head model that no part replaces."""

    shapes: tuple[PartShape, ...]
    tongue_out: np.ndarray
    skin_faces: np.ndarray


def head_parts(data: HeadData) -> HeadParts | None:
    """The parts of a head model; None where none were made for this very geometry.

    Raises:
        HeadModelError: the shipped file is damaged.
    """
    path = shipped_folder() / f"{data.name}_parts.safetensors"
    if not path.is_file():
        return None
    found = _read(path)
    if found[0] != data.geometry_hash():
        return None
    return _assembled(data, found[1])


def affine_follow(source: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """[N, K]: least squares of an affine map from K source points [K, 3], applied to points [N, 3]."""
    ones = np.ones((len(source), 1))
    return np.column_stack([vertices, np.ones(len(vertices))]) @ np.linalg.pinv(np.column_stack([source, ones]))


def _assembled(data: HeadData, arrays: dict[str, np.ndarray]) -> HeadParts:
    template = data.template.astype(np.float64)
    shapes = []
    for name in ("left_eye", "right_eye", "upper_teeth", "lower_teeth"):
        vertices, source = arrays[f"{name}.vertices"].astype(np.float64), arrays[f"{name}.source"].astype(np.int64)
        follow = affine_follow(template[source], vertices)
        faces, uv = arrays[f"{name}.faces"].astype(np.int64), arrays[f"{name}.uv"]
        shapes.append(PartShape(name, vertices, faces, uv, source, follow))
    shapes.append(_tongue(data, arrays[f"{TONGUE}.source"].astype(np.int64)))
    replaced = np.zeros(len(template), bool)
    for shape in shapes:
        replaced[shape.source] = True
    out = np.zeros((len(template), 3), np.float32)
    out[shapes[-1].source] = arrays["tongue_out"]
    return HeadParts(tuple(shapes), out, np.flatnonzero(~replaced[data.faces].any(axis=1)))


def _tongue(data: HeadData, source: np.ndarray) -> PartShape:
    """The head model's own tongue, laid out anew from above: the texture's rows run from its root to its tip."""
    inside = np.isin(data.faces, source).all(axis=1)
    position = np.full(len(data.template), -1)
    position[source] = np.arange(len(source))
    place = data.template[source].astype(np.float64)
    low, high = place.min(axis=0), place.max(axis=0)
    share = (place - low) / (high - low)
    uv = np.column_stack([0.04 + 0.92 * share[:, 0], 0.04 + 0.42 * share[:, 2]]).astype(np.float32)
    return PartShape(TONGUE, place, position[data.faces[inside]], uv, source, np.eye(len(source)))


@lru_cache(maxsize=1)
def _read(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    try:
        with safe_open(str(path), framework="np") as file:
            facts = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if facts.get("format") != FORMAT:
            raise ValueError(f"its format is {facts.get('format')!r}, expected {FORMAT!r}")
        return json.loads(facts["parts"])["geometry_hash"], arrays
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise HeadModelError(f"the head's parts '{path}' are damaged ({error}); install the package again") from error
