"""`parameters.json`: faces as plain numbers and strings, and read again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tokenface.errors import TokenFaceError
from tokenface.formats.parameters import parameters_document, plain
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera, PinholeCamera
from tokenface.images.loading import ImageItem
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.refinement import Refinement
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from tokenface.head.model import HeadModel


@dataclass(frozen=True)
class Origin:
    """Provenance of a prediction. weights: the checkpoint's name.  weights_hash: of its file.
    head_hash: `HeadData.geometry_hash` of the head model."""

    weights: str
    weights_hash: str
    head_hash: str


class Written(Protocol):
    """What a document says of a face: see `Face`."""

    @property
    def index(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def confidence_features(self) -> ConfidenceFeatures: ...
    @property
    def box(self) -> np.ndarray: ...
    @property
    def crop(self) -> Crop: ...
    @property
    def parameters(self) -> FaceParameters: ...
    @property
    def camera(self) -> FaceCamera: ...
    @property
    def head(self) -> HeadModel: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def refined(self) -> Refinement | None: ...
    @property
    def expressions(self) -> dict[str, float]: ...
    @property
    def arkit(self) -> dict[str, float] | None: ...
    @property
    def landmarks(self) -> np.ndarray: ...
    @property
    def landmarks3d(self) -> np.ndarray: ...
    @property
    def landmarks468(self) -> np.ndarray | None: ...


def face_entry(face: Written) -> dict[str, Any]:
    """Everything of a face as plain numbers and strings: one entry of `parameters.json`."""
    parameters: dict[str, Any] = {name: np.asarray(value) for name, value in face.parameters.items()}
    parameters["expression"] = face.expressions
    parameters["light"] = np.asarray(face.parameters.light).reshape(-1, 3)
    entry: dict[str, Any] = {
        "index": face.index,
        "confidence": face.confidence,
        "evidence": asdict(face.confidence_features),
        "box": face.box,
        "crop": {"centre": list(face.crop.centre), "size": face.crop.size, "angle": face.crop.angle},
        "parameters": parameters,
        "camera": camera_entry(face.camera, face.landmarks3d),
        "landmarks68": np.round(face.landmarks, 3),
    }
    if face.refined is not None:
        entry["refined"] = asdict(face.refined)
    if face.arkit is not None:
        entry["arkit"] = face.arkit
    if face.landmarks468 is not None:
        points = np.round(face.landmarks468, 2)
        entry["landmarks468"] = [point if np.isfinite(point).all() else None for point in points]
    return plain(entry)


def face_fields(entry: Mapping[str, Any], document: Mapping[str, Any], head: HeadModel) -> dict[str, Any]:
    """The fields of a `Face` of a `parameters.json` (see `formats.parameters.read_parameters`).

    Raises:
        TokenFaceError: the document was made with another head model, or lacks something.
    """
    import torch

    made_with = document["head"]
    if made_with["geometry_hash"] != head.data.geometry_hash():
        raise TokenFaceError(
            f"the parameters belong to head model '{made_with['name']}' ({made_with['geometry_hash']}), not to "
            f"'{head.name}' ({head.data.geometry_hash()}); load that one with load_head"
        )
    try:
        values = dict(entry["parameters"])
        values["expression"] = [values["expression"][name] for name in head.expression_names]
        tensors = {name: torch.tensor(value, dtype=torch.float32).reshape(-1) for name, value in values.items()}
        for name, tensor in tensors.items():
            if len(tensor) != head.sizes[name] or not torch.isfinite(tensor).all():
                raise ValueError(f"'{name}' must be {head.sizes[name]} finite numbers, got {len(tensor)}")
        x, y, side, angle = _numbers([*entry["crop"]["centre"], entry["crop"]["size"], entry["crop"]["angle"]], 4)
        if not side > 0:
            raise ValueError("the crop has no size")
        crop = Crop((x, y), side, angle)
        photo, origin = document["photo"], document["weights"]
        refined = Refinement.from_dict(entry["refined"]) if "refined" in entry else None
        size, opencv = (1.0 if refined is None else refined.size), entry["camera"]["opencv"]
        vector = tensors["camera"].double().numpy()
        vector[0] /= size
        lens = None
        if opencv["focal_given"]:
            lens = PinholeCamera(*(np.array(opencv[name], np.float64) for name in ("K", "R", "t")))
        return dict(
            parameters=FaceParameters(**tensors),
            camera=FaceCamera(vector, crop, (int(photo["height"]), int(photo["width"])), lens),
            box=np.array(_numbers(entry["box"], 4)),
            confidence_features=ConfidenceFeatures(
                **{k: math.nan if v is None else v for k, v in entry["evidence"].items()}
            ),
            head=head,
            item=ImageItem(str(photo["name"]), str(photo["name"])),
            origin=Origin(origin["name"], origin["hash"], made_with["geometry_hash"]),
            index=int(entry["index"]),
            refined=refined,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise TokenFaceError(f"the parameters are incomplete ({text}); reconstruct the photo again") from error


def photo_document(faces: Sequence[Written], photo_name: str) -> dict[str, Any]:
    """The `parameters.json` of one photo, from its faces (at least one)."""
    first = faces[0]
    height, width = first.camera.photo_size
    data = first.head.data
    return parameters_document(
        [face_entry(face) for face in faces],
        head={
            "name": data.name,
            "licence": data.licence,
            "geometry_hash": first.origin.head_hash,
            "vertices": len(data.template),
        },
        weights={"name": first.origin.weights, "hash": first.origin.weights_hash},
        photo={"name": photo_name, "width": width, "height": height},
    )


def camera_entry(camera: FaceCamera, landmarks3d: np.ndarray) -> dict[str, Any]:
    """A camera as numbers. landmarks3d: [68, 3] metres, around which a pinhole camera is put."""
    pinhole = camera.pinhole(centre=landmarks3d.mean(axis=0))
    flat = replace(camera, lens=None).project(landmarks3d)
    offset = pinhole.project(landmarks3d) - flat
    height, width = camera.photo_size
    yaw, pitch, roll = np.degrees(camera.angles)
    return {
        "orthographic": camera.orthographic(),
        "pixels_per_metre": camera.pixels_per_metre,
        "angles_degrees": {"yaw": yaw, "pitch": pitch, "roll": roll},
        "opencv": {
            "K": pinhole.K,
            "R": pinhole.R,
            "t": pinhole.t,
            "distortion": [0.0] * 5,
            "width": width,
            "height": height,
            "focal_given": camera.lens is not None,
            "rms_px": float(np.sqrt(np.square(offset).sum(axis=1).mean())),
        },
    }


def _numbers(values: Any, count: int) -> list[float]:
    """So many finite numbers; raises ValueError."""
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {count} finite numbers, got {str(values)[:60]}")
    return numbers
