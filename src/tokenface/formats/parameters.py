"""`parameters.json`: all results of one photo by name, with their conventions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.files import read_json, write_atomically
from tokenface.errors import TokenFaceError

MAX_FACES = 100_000
"""More than any photo has."""
SCHEMA = "tokenface-parameters-1"

CONVENTIONS = {
    "head_space": "right-handed; +x to the subject's left, +y up, +z out of the face; metres",
    "photo_pixels": "x right, y down, of the photo turned upright by its EXIF tag; pixel centres at +0.5",
    "rotations": "axis-angle, radians",
    "parameters.camera": "[s, r_x, r_y, r_z, t_x, t_y, t_z]: p = s R(r) v + t; crop NDC x = p_x, y = -p_y in [-1, 1]",
    "crop": "square of the photo: centre and side in photo pixels; angle in radians, anticlockwise positive",
    "camera.orthographic": "3x4 matrix from (X, Y, Z, 1) in head space to (x, y, 1) in photo pixels; exact "
    "unless focal_given",
    "camera.opencv": "x ~ K (R X + t), x right, y down, z forward, no distortion; the focal length is assumed unless "
    "focal_given, and then this camera is the exact one; rms_px is the distance to the orthographic one over the 68 "
    "landmarks",
    "refined": "if the face was refined on its photo: mean distance to the face mesh's points (% of their box), "
    "photometric difference (grey levels of 1), move of the shape, seconds; size: of the head over the model's; "
    "lengths in the mesh files, camera.orthographic and camera.opencv have it, parameters do not",
    "camera.angles_degrees": "yaw > 0: face turned to the right side of the picture; pitch > 0: up; roll > 0: "
    "anticlockwise",
    "parameters.shape": "identity coefficients of the head model, standard deviations",
    "parameters.expression": "weights of the head model's expression basis, by name",
    "arkit": "the 52 ARKit blend-shape coefficients in [0, 1]; absent where the head model has none",
    "parameters.texture": "coefficients of the head model's albedo basis",
    "parameters.light": "nine spherical-harmonics bands x RGB on normals in camera space",
    "landmarks68": "iBUG order, photo pixels; the jaw line slides with yaw as annotators place it",
    "landmarks468": "MediaPipe face-mesh order, photo pixels; null where the head model has no such point",
    "confidence": "in [0, 1]: evidence.probability, that the mean error of the 68 points is below 3 % of the root of "
    "their box's area; for uncalibrated weights (probability null) the product of the first five features, which only "
    "ranks",
    "evidence.expected_*": "mean error of faces with such features: shape and expression in mm, jaw and camera in "
    "degrees, texture and light in grey levels of 255",
}


def parameters_document(
    faces: Sequence[Mapping[str, Any]], head: Mapping[str, Any], weights: Mapping[str, Any], photo: Mapping[str, Any]
) -> dict[str, Any]:
    """The document of one photo, from the dictionaries of its faces (`Face.to_dict`)."""
    from tokenface.version import __version__

    return {
        "schema": SCHEMA,
        "software": f"TokenFace {__version__}",
        "conventions": CONVENTIONS,
        "head": dict(head),
        "weights": dict(weights),
        "photo": dict(photo),
        "faces": [dict(face) for face in faces],
    }


def write_parameters(path: str | Path, document: Mapping[str, Any]) -> Path:
    """Write the document as strict JSON (no NaN).

    Raises:
        OutputError: the file cannot be written.
    """
    return write_atomically(path, parameters_bytes(document))


def parameters_bytes(document: Mapping[str, Any]) -> bytes:
    """The file of `write_parameters` as bytes."""
    text = json.dumps(plain(document), indent=1, allow_nan=False, ensure_ascii=False)
    return (_join_numbers(text) + "\n").encode(errors="replace")  # names that are not UTF-8


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Read such a document; `Face.from_dict` turns its faces into `Face` objects again.

    Raises:
        TokenFaceError: missing, not JSON, or another schema.
    """
    path = Path(path)
    try:
        document = read_json(path)
    except OSError as error:
        raise TokenFaceError(f"cannot read '{path}' ({error.strerror or error})") from error
    except ValueError as error:
        raise TokenFaceError(f"'{path}' is not JSON ({error}); expected a parameters.json of TokenFace") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise TokenFaceError(f"'{path}' has schema {schema!r}, expected '{SCHEMA}'; reconstruct the photo again")
    _check(path, document)
    return document


def _check(path: Path, document: Mapping[str, Any]) -> None:
    faces = document.get("faces")
    sections = all(isinstance(document.get(name), dict) for name in ("head", "weights", "photo"))
    if not sections or not isinstance(faces, list) or not all(isinstance(face, dict) for face in faces):
        raise TokenFaceError(f"'{path}' lacks its head, weights, photo or faces; reconstruct the photo again")
    indices = [face.get("index") for face in faces]
    if not all(isinstance(index, int) and 0 <= index < MAX_FACES for index in indices):
        raise TokenFaceError(
            f"'{path}' has faces without a number from 0 to {MAX_FACES - 1}; reconstruct the photo again"
        )
    if len(set(indices)) < len(indices):  # one would overwrite the other's files
        raise TokenFaceError(f"'{path}' has two faces of the same number; reconstruct the photo again")


def plain(value: Any) -> Any:
    """Arrays and NumPy numbers as lists and numbers, float32 with its seven digits; NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(entry) for entry in value]
    if isinstance(value, np.float32):
        value = float(f"{value:.7g}")
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _join_numbers(text: str) -> str:
    """Lists of numbers on one line: a person should be able to read the file. (No JSON string holds a line break.)"""
    return re.sub(r"\[\n([-+\d.,eEnul\s]*)\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
