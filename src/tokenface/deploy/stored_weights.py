"""Large constants of an ONNX graph in fewer bits, unpacked to fp32 before they are used: arithmetic stays fp32.

Runtimes unpack once, when a file is opened.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tokenface.deploy.needed import needed
from tokenface.deploy.network_nodes import NETWORKS, scope

LARGE = 1 << 16
"""Numbers from which a constant is worth packing."""
BLOCK = 64
"""Neighbouring int8 weights that share a scale."""
HEAD = "head"
"""Module whose bases become int8."""


def pack_weights(graph: Any, stored: Literal["fp16", "int8"]) -> None:
    """Large fp32 constants of networks and head become fp16, the head's int8 with a scale a block if told.

    What geometry is made of becomes fp16 where that loses nothing.
    """
    onnx = needed("onnx")
    users: dict[str, set[str]] = {}
    for node in graph.node:
        for value in node.input:
            users.setdefault(value, set()).add(scope(node).split(".")[0])
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        values, by = onnx.numpy_helper.to_array(tensor), users.get(tensor.name, set())
        half = values.astype(np.float16)
        if by == {HEAD} and stored == "int8":
            _replace(graph, tensor, _blocks(tensor.name, values))
        elif by <= {HEAD, *NETWORKS} or (half == values).all():
            _replace(graph, tensor, _halves(tensor.name, half))


def _replace(graph: Any, tensor: Any, parts: tuple[list[Any], list[Any]]) -> None:
    constants, nodes = parts
    graph.initializer.remove(tensor)
    graph.initializer.extend(constants)
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _halves(name: str, half: np.ndarray) -> tuple[list[Any], list[Any]]:
    onnx = needed("onnx")
    cast = onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}/unpacked", to=onnx.TensorProto.FLOAT)
    return [onnx.numpy_helper.from_array(half, f"{name}.half")], [cast]


def _blocks(name: str, values: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Symmetric int8: a block of neighbours along a mode keeps its own largest magnitude, so small detail survives."""
    onnx = needed("onnx")
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    block = next(size for size in range(BLOCK, 0, -1) if values.size % size == 0)
    rows = values.reshape(-1, block)
    scales = np.maximum(np.abs(rows).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny)
    constants = {
        "eight": np.rint(rows / scales).astype(np.int8),
        "scales": scales.astype(np.float32),
        "size": np.asarray(values.shape, np.int64),
    }
    nodes = [
        make("Cast", [f"{name}.eight"], [f"{name}.rows"], f"{name}/unpacked", to=onnx.TensorProto.FLOAT),
        make("Mul", [f"{name}.rows", f"{name}.scales"], [f"{name}.scaled"], f"{name}/scaled"),
        make("Reshape", [f"{name}.scaled", f"{name}.size"], [name], f"{name}/reshaped"),
    ]
    return [constant(array, f"{name}.{part}") for part, array in constants.items()], nodes
