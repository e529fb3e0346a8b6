"""ONNX constants stored in fewer bits, unpacked to fp32 before use, and the nodes that may lose precision.

Runtimes unpack once, when a file is opened.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tokenface.errors import TokenFaceError
from tokenface.graphs.sessions import needed

NETWORKS = ("network", "detector", "mesh")
"""Modules of the exported graphs whose arithmetic is lowered; boxes, crops, cameras and heads stay fp32."""
PRODUCTS = ("Conv", "MatMul", "Gemm")


def network_nodes(graph: Any) -> set[str]:
    """Names of the nodes inside NETWORKS, up to the last products before what leaves them.

    The last products are linear heads and regressors of pixel coordinates: they cost little and give the numbers.

    Args:
        graph: ONNX graph whose nodes are called `module.path/name`, as `onnx_files` calls them.
    Raises:
        TokenFaceError: nothing is inside.
    """
    inside = {node.name: node for node in graph.node if scope(node).split(".")[0] in NETWORKS}
    chosen = inside.keys() - _last_products(graph, inside)
    if not any(inside[name].op_type in PRODUCTS for name in chosen):
        raise TokenFaceError("the graph's nodes do not say which network they belong to; export it again")
    return chosen


def scope(node: Any) -> str:
    """`network.backbone.blocks.0` of a node called `network.backbone.blocks.0/node_add`."""
    return node.name.rpartition("/")[0]


def _last_products(graph: Any, inside: dict[str, Any]) -> set[str]:
    """Nodes inside from which the outside is reached without another product, normalisation or softmax."""
    maker = {value: node for node in inside.values() for value in node.output}
    waiting = [output.name for output in graph.output]
    waiting += [value for node in graph.node if node.name not in inside for value in node.input]
    found: set[str] = set()
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if node.op_type not in (*PRODUCTS, "LayerNormalization", "Softmax"):
            waiting.extend(node.input)
    return found


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
