"""Tables of faces: columns of a shard, and the inverse from a row to a `Face`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.errors import DataError
from tokenface.head.model import HeadModel
from tokenface.inference.confidence import CONFIDENCE_FIELDS
from tokenface.inference.face import Face, Origin
from tokenface.inference.result import PhotoResult
from tokenface.parameters import COMPONENTS

SCHEMA = "tokenface-faces-1"
FORMATS = ("parquet", "npz")
METADATA = "tokenface"
"""Key of the JSON metadata of a shard: schema, head model, weights, names of the expressions, signature."""
TEXTS = ("photo", "status", "error")
WIDTHS = {"box": 4, "crop": 4, "evidence": len(CONFIDENCE_FIELDS), "orthographic": 8, "landmarks68": 136}
"""Columns of fixed length besides the components: box x0 y0 x1 y1; crop centre x, centre y, side, angle; the first two
rows of the exact projection from head space to photo pixels; landmarks x, y."""

Columns = dict[str, np.ndarray]


def columns(results: Sequence[PhotoResult], head: HeadModel) -> Columns:
    """One row per face; a photo without one, or that failed, has a row of its own with face −1 and zeros.

    Columns: photo, status ("done", "no_face", "failed"), error, face, height, width, confidence, those of `WIDTHS`,
    the six components and, where the head model speaks ARKit, `arkit`.
    """
    rows: list[tuple[PhotoResult, Face | None]] = []
    for result in results:
        rows += [(result, face) for face in result.faces] or [(result, None)]
    size = {name: head.sizes[name] for name in COMPONENTS} | WIDTHS
    named = len(next((face.arkit for _, face in rows if face is not None and face.arkit is not None), ()))
    if named:
        size["arkit"] = named
    table: Columns = {name: np.array([_texts(result)[i] for result, _ in rows]) for i, name in enumerate(TEXTS)}
    table["face"] = np.array([-1 if face is None else face.index for _, face in rows], np.int16)
    table["height"], table["width"] = (np.array([result.size[i] for result, _ in rows], np.int32) for i in (0, 1))
    table["confidence"] = np.array([0.0 if face is None else face.confidence for _, face in rows], np.float32)
    for name, width in size.items():
        table[name] = np.zeros((len(rows), width), np.float64 if name in WIDTHS else np.float32)
    for row, (_, face) in enumerate(rows):
        if face is not None:
            for name, value in _numbers(face).items():
                table[name][row] = value
    return table


def _texts(result: PhotoResult) -> tuple[str, str, str]:
    return result.item.name, result.status, "" if result.error is None else str(result.error)


def _numbers(face: Face) -> dict[str, np.ndarray]:
    crop, features = face.crop, asdict(face.confidence_features)
    values: dict[str, Any] = {name: value.numpy() for name, value in face.parameters.items()}
    values["box"] = face.box
    values["crop"] = [*crop.centre, crop.size, crop.angle]
    values["evidence"] = [features[name] for name in CONFIDENCE_FIELDS]
    values["orthographic"] = face.camera.orthographic()[:2].ravel()
    values["landmarks68"] = face.landmarks.ravel()
    if face.arkit is not None:
        values["arkit"] = list(face.arkit.values())
    return values


def metadata(head: HeadModel, origin: Origin, arkit_names: Sequence[str], signature: str) -> dict[str, Any]:
    """Metadata of a table."""
    return {
        "schema": SCHEMA,
        "signature": signature,
        "head": {"name": head.name, "licence": head.data.licence, "geometry_hash": origin.head_hash},
        "weights": {"name": origin.weights, "hash": origin.weights_hash},
        "expression": list(head.expression_names),
        "arkit": list(arkit_names),
        "evidence": list(CONFIDENCE_FIELDS),
    }


def encode(table: Columns, facts: dict[str, Any], form: str) -> bytes:
    """The bytes of a shard; equal tables give equal bytes."""
    buffer = io.BytesIO()
    text = json.dumps(facts, sort_keys=True)
    if form == "npz":
        arrays_by_name: dict[str, Any] = {**table, METADATA: np.array(text)}
        np.savez_compressed(buffer, **arrays_by_name)
        return buffer.getvalue()
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {}
    for name, values in table.items():
        if values.ndim == 2:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        else:
            arrays[name] = pa.array(values.tolist() if name in TEXTS else values)
    made = pa.table(arrays).replace_schema_metadata({METADATA: text})
    parquet.write_table(made, buffer, compression="zstd")
    return buffer.getvalue()


def decode(data: bytes, name: str) -> tuple[Columns, dict[str, Any]]:
    """A shard's columns and metadata.

    Raises:
        DataError: no shard of ours, or damaged.
    """
    try:
        if name.endswith(".npz"):
            with open_arrays(data) as file:
                facts = json.loads(str(file[METADATA]))
                table = {key: file[key] for key in file.files if key != METADATA}
        else:
            from pyarrow import parquet

            read = parquet.read_table(io.BytesIO(data))
            facts = json.loads((read.schema.metadata or {})[METADATA.encode()])
            table = {key: _array(read.column(key).combine_chunks()) for key in read.column_names}
        if facts["schema"] != SCHEMA:
            raise ValueError(f"schema {facts['schema']!r}, expected '{SCHEMA}'")
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise DataError(
            f"'{name}' is no table of faces, or it is damaged ({' '.join(str(error).split())[:120]})"
        ) from error
    return table, facts


def _array(column: Any) -> np.ndarray:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    values = column.to_pylist() if pa.types.is_string(column.type) else column.to_numpy(zero_copy_only=False)
    return np.asarray(values)


def faces(table: Columns, facts: dict[str, Any], head: HeadModel) -> Iterator[Face]:
    """The faces of a table as `Face` objects, to save, draw or compare.

    Raises:
        TokenFaceError: the table was made with another head model.
    """
    for row in np.flatnonzero(table["face"] >= 0):
        parameters: dict[str, Any] = {name: table[name][row] for name in COMPONENTS}
        parameters["expression"] = dict(zip(facts["expression"], parameters["expression"], strict=True))
        x, y, side, angle = table["crop"][row].tolist()
        entry = {
            "index": int(table["face"][row]),
            "parameters": parameters,
            "crop": {"centre": [x, y], "size": side, "angle": angle},
            "box": table["box"][row],
            "evidence": dict(zip(facts["evidence"], table["evidence"][row].tolist(), strict=True)),
            "camera": {"opencv": {"focal_given": False}},  # a bulk run knows no lenses
        }
        photo = {
            "name": str(table["photo"][row]),
            "height": int(table["height"][row]),
            "width": int(table["width"][row]),
        }
        yield Face.from_dict(entry, {"head": facts["head"], "weights": facts["weights"], "photo": photo}, head)
