"""Graph templates: ONNX graphs without their weights, which are filled in from a file of tensors in milliseconds.

Exporting a network takes a minute of a processor; its graph depends on the architecture alone. So the graphs of the
shipped architectures are shipped, a few hundred kilobytes each, and the tensors are appended to them: in Protocol
Buffers two messages in a row are one message with the fields of both (Encoding, "Last One Wins"). Neither torch nor the
package onnx is needed. `deploy.template_maker` makes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError

from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError

FORMAT = "tokenface-graph-1"
GRAPH = "graph"
FOLDER = "graphs"
FLOAT = 1
"""ONNX's number of float32."""


_Parts = list[bytes | memoryview]
"""Of a message, in order: tens of megabytes are copied once, when all are joined."""


class Place(NamedTuple):
    """Source of a constant of a graph. key: name of the tensor.  transposed, then reshaped to `shape`."""

    key: str
    transposed: bool
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """An ONNX model without weights, and where they come from.

    graph: the model's bytes.  places: of the constants that are missing, by their names in the graph.
    """

    graph: bytes
    places: Mapping[str, Place]


def templates_folder() -> Path:
    """Folder of the shipped templates."""
    return Path(str(resources.files("tokenface"))) / "assets" / FOLDER


def read_template(path: Path) -> Template:
    """A file of `template_maker`.

    Raises:
        CheckpointError: missing, damaged, or another file.
    """
    try:
        with open_tensors(path, "np") as file:
            places = json.loads((file.metadata() or {})[FORMAT])
            places = {name: Place(key, bool(turned), tuple(shape)) for name, (key, turned, shape) in places.items()}
            return Template(file.get_tensor(GRAPH).tobytes(), places)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the graph '{path}' is damaged ({error}); install tokenface again") from error


def filled(template: Template, tensors: Mapping[str, np.ndarray]) -> bytes:
    """The ONNX model of a network with these weights, for onnxruntime and OpenVINO.

    Args:
        tensors: a checkpoint's, and the recognition network's under RECOGNITION; of any floating type.
    Raises:
        CheckpointError: a tensor is missing.
    """
    constants: _Parts = []
    for name, place in template.places.items():
        constants += _field(5, _tensor(name, place, tensors))  # GraphProto.initializer
    return b"".join([template.graph, *_field(7, constants)])  # ModelProto.graph


def all_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        with open_tensors(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path}' is no readable safetensors file ({error}); install it again") from error


def _tensor(name: str, place: Place, tensors: Mapping[str, np.ndarray]) -> _Parts:
    """TensorProto: dims, data_type, name, raw_data."""
    values = tensors.get(place.key)
    if values is None or values.size != math.prod(place.shape):
        raise CheckpointError(f"the weights lack '{place.key}', which their graph needs; download or train them again")
    values = np.ascontiguousarray(values.T if place.transposed else values, "<f4")
    dims = b"".join(_varint(1 << 3) + _varint(length) for length in place.shape)
    called, content = _field(8, [name.encode()]), _field(9, [values.reshape(-1).view(np.uint8).data])
    return [dims, _varint(2 << 3), _varint(FLOAT), *called, *content]


def _field(number: int, payload: _Parts) -> _Parts:
    """A length-delimited field."""
    return [_varint(number << 3 | 2), _varint(sum(map(len, payload))), *payload]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
