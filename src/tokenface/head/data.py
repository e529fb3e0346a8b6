"""The file that every head model becomes: plain arrays plus a few facts, in one `.safetensors`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tokenface.errors import HeadModelError

FORMAT = "tokenface-head-1"
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
JOINT_PARENTS = (-1, 0, 1, 1, 1)


@dataclass
class HeadData:
    """A head model as arrays. V vertices, F triangles, T texture coordinates, S/E/A basis sizes, J = 5 joints.

    Head space: right-handed, +x to the subject's left, +y up, +z out of the face, metres.
    Bases may be float16 in the file; they are float32 in `HeadModel`.
    """

    name: str
    licence: str
    template: np.ndarray  # [V, 3] float32, mean head
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside
    uv: np.ndarray  # [T, 2] float32 in [0, 1], u right, v up (OBJ's convention)
    uv_faces: np.ndarray  # [F, 3] int32, indices into uv
    shape_basis: np.ndarray  # [S, V, 3], metres per standard deviation
    expression_basis: np.ndarray  # [E, V, 3], metres per unit
    expression_names: tuple[str, ...]  # [E]; ARKit names where the model has them
    expression_range: tuple[float, float] | None  # allowed weights; None when unbounded (FLAME)
    joint_template: np.ndarray  # [5, 3], joints of the mean head, order JOINT_NAMES
    joint_basis: np.ndarray  # [S + E, 5, 3], joint motion per coefficient (regressor folded in)
    skinning_weights: np.ndarray  # [V, 5], rows sum to 1
    static_landmark_faces: np.ndarray  # [51] triangles of iBUG points 17..67
    static_landmark_barycentrics: np.ndarray  # [51, 3]
    contour_faces: np.ndarray  # [N, 17] jaw-line triangles, one row per whole degree of yaw
    contour_barycentrics: np.ndarray  # [N, 17, 3]
    contour_first_yaw: int  # degrees of row 0; rows go up one degree each, yaw > 0 as in Camera.angles
    mirror: np.ndarray  # [V] int32, the vertex on the other side
    pose_basis: np.ndarray | None = None  # [36, V, 3] pose correctives of (R − I) of the four inner joints
    eye_drive: np.ndarray | None = None  # [E, 2, 3] axis-angle of left and right eye per unit of expression
    mesh468_faces: np.ndarray | None = None  # [468] triangles of MediaPipe's face-mesh points; −1: none
    mesh468_barycentrics: np.ndarray | None = None  # [468, 3]
    albedo_mean: np.ndarray | None = None  # [R, R, 3] linear-free sRGB in [0, 1]; row 0 is v = 1 (image order)
    albedo_basis: np.ndarray | None = None  # [A, R, R, 3] float or int8 with albedo_scale
    albedo_scale: np.ndarray | None = None  # [A] sRGB per int8 step; None when the basis is float
    regions: dict[str, np.ndarray] = field(default_factory=dict)  # name → vertex indices
    facts: dict[str, str] = field(default_factory=dict)  # provenance: sources, versions, seeds

    def save(self, path: str | Path) -> None:
        """Write the file atomically; the same arrays give the same bytes."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(self.to_bytes())
        temporary.replace(path)

    def to_bytes(self) -> bytes:
        tensors = {f"region.{k}": np.ascontiguousarray(v, dtype=np.int32) for k, v in sorted(self.regions.items())}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                tensors[f.name] = np.ascontiguousarray(value)
        header = {
            "name": self.name,
            "licence": self.licence,
            "expression_names": list(self.expression_names),
            "expression_range": list(self.expression_range) if self.expression_range else None,
            "contour_first_yaw": int(self.contour_first_yaw),
            "facts": dict(sorted(self.facts.items())),
        }
        return save(tensors, metadata={"format": FORMAT, "head": json.dumps(header, sort_keys=True)})

    @staticmethod
    def load(path: str | Path) -> HeadData:
        """Read a head-model file.

        Raises:
            HeadModelError: missing, not a head-model file, or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise HeadModelError(f"no head model at '{path}'; see 'tokenface doctor' for the models that are installed")
        try:
            with safe_open(str(path), framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise HeadModelError(
                        f"'{path}' is not a tokenface head model; convert FLAME or ICT files with 'tokenface head add'"
                    )
                header = json.loads(metadata["head"])
                arrays = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise HeadModelError(f"head model '{path}' is damaged ({error}); build or add it again") from error
        regions = {k.removeprefix("region."): arrays.pop(k) for k in sorted(arrays) if k.startswith("region.")}
        names = {f.name for f in fields(HeadData)}
        span = header["expression_range"]
        return HeadData(
            name=header["name"],
            licence=header["licence"],
            expression_names=tuple(header["expression_names"]),
            expression_range=(float(span[0]), float(span[1])) if span else None,
            contour_first_yaw=int(header["contour_first_yaw"]),
            regions=regions,
            facts=header["facts"],
            **{k: v for k, v in arrays.items() if k in names},
        )

    def geometry_hash(self) -> str:
        """Sixteen hex digits that change when anything a checkpoint depends on changes (mesh, bases, joints)."""
        digest = hashlib.sha256()
        for array in (self.template, self.faces, self.shape_basis, self.expression_basis, self.joint_template):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]
