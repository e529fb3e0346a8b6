"""Head-model file: plain arrays and metadata in one `.safetensors`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from tokenface.core.tensors import open_tensors
from tokenface.errors import HeadModelError
from tokenface.head.mirrored_basis import halved, whole
from tokenface.parameters import ComponentSizes

FORMAT = "tokenface-head-1"
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
JOINT_PARENTS = (-1, 0, 1, 1, 1)
NECK, JAW, LEFT_EYE, RIGHT_EYE = 1, 2, 3, 4


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

    @property
    def sizes(self) -> ComponentSizes:
        """Of the components that the head decodes."""
        return ComponentSizes(
            shape=self.shape_basis.shape[0],
            expression=self.expression_basis.shape[0],
            texture=0 if self.albedo_basis is None else self.albedo_basis.shape[0],
        )

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
        if (parts := halved(self.shape_basis, np.asarray(self.mirror))) is not None:  # OpenHead's: a fifth of the file
            del tensors["shape_basis"]
            tensors["shape_half"], tensors["shape_signs"] = parts
        header = {
            "name": self.name,
            "licence": self.licence,
            "expression_names": list(self.expression_names),
            "expression_range": list(self.expression_range) if self.expression_range else None,
            "contour_first_yaw": int(self.contour_first_yaw),
            "facts": dict(sorted(self.facts.items())),
        }
        return in_order(save(tensors, metadata={"format": FORMAT, "head": json.dumps(header, sort_keys=True)}))

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
            with open_tensors(path, "np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise HeadModelError(
                        f"'{path}' is not a tokenface head model; "
                        "convert FLAME or ICT files with 'tokenface head add flame PATH' (or ict)"
                    )
                header = json.loads(metadata["head"])
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            if "shape_half" in arrays:
                arrays["shape_basis"] = whole(arrays.pop("shape_half"), arrays.pop("shape_signs"), arrays["mirror"])
            regions = {k.removeprefix("region."): arrays.pop(k) for k in sorted(arrays) if k.startswith("region.")}
            names = {f.name for f in fields(HeadData)}
            span = header["expression_range"]
            data = HeadData(
                name=header["name"],
                licence=header["licence"],
                expression_names=tuple(header["expression_names"]),
                expression_range=(float(span[0]), float(span[1])) if span else None,
                contour_first_yaw=int(header["contour_first_yaw"]),
                regions=regions,
                facts=header["facts"],
                **{k: v for k, v in arrays.items() if k in names},
            )
            data.check()
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise HeadModelError(f"head model '{path}' is damaged ({error}); build or add it again") from error
        return data

    def check(self) -> None:
        """Sizes agree and every index points at something, so that no later look-up leaves its array.

        Raises:
            ValueError: what does not fit.
        """
        count, triangles = len(self.template), len(self.faces)
        modes, actions = len(self.shape_basis), len(self.expression_basis)
        shapes = {
            "template": (count, 3),
            "faces": (triangles, 3),
            "uv": (len(self.uv), 2),
            "uv_faces": (triangles, 3),
            "shape_basis": (modes, count, 3),
            "expression_basis": (actions, count, 3),
            "joint_template": (len(JOINT_NAMES), 3),
            "joint_basis": (modes + actions, len(JOINT_NAMES), 3),
            "skinning_weights": (count, len(JOINT_NAMES)),
            "static_landmark_faces": (51,),
            "static_landmark_barycentrics": (51, 3),
            "contour_faces": (len(self.contour_faces), 17),
            "contour_barycentrics": (len(self.contour_faces), 17, 3),
            "mirror": (count,),
            "pose_basis": (9 * (len(JOINT_NAMES) - 1), count, 3),
            "eye_drive": (actions, 2, 3),
            "mesh468_faces": (468,),
            "mesh468_barycentrics": (468, 3),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if len(self.expression_names) != actions or not len(self.contour_faces):
            raise ValueError(f"{len(self.expression_names)} names for {actions} expressions")
        limits = {"faces": count, "uv_faces": len(self.uv), "mirror": count}
        limits |= dict.fromkeys(("static_landmark_faces", "contour_faces", "mesh468_faces"), triangles)
        indices = [(name, getattr(self, name), limit) for name, limit in limits.items()]
        for name, array, limit in indices + [(f"region.{k}", v, count) for k, v in self.regions.items()]:
            least = -1 if name == "mesh468_faces" else 0
            if array is not None and array.size and not least <= int(array.min()) <= int(array.max()) < limit:
                raise ValueError(f"{name} refers to something that is not there")

    def face_vertices(self) -> np.ndarray | None:
        """[K] int64, the face as photos show it, eyes included: FLAME's published mask leaves the eyeballs out,
        OpenHead's has them. None without named regions."""
        if "face" not in self.regions:
            return None
        parts = [self.regions[name] for name in ("face", "left_eyeball", "right_eyeball") if name in self.regions]
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def geometry_hash(self) -> str:
        """Sixteen hex digits that change when anything a checkpoint depends on changes (mesh, bases, joints)."""
        digest = hashlib.sha256()
        for array in (self.template, self.faces, self.shape_basis, self.expression_basis, self.joint_template):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def in_order(file: bytes) -> bytes:
    """The same safetensors file with its header sorted: the library writes metadata in an order of chance."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]
