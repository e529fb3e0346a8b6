"""fp16 forms of ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tokenface.deploy.needed import needed
from tokenface.deploy.network_nodes import network_nodes
from tokenface.deploy.stored_weights import pack_weights

FULL = ("Resize", "Constant", "ConstantOfShape", "Range")
"""Operators that want float32 in some input, or make it from an attribute."""
TINY = float(np.finfo(np.float16).smallest_subnormal)
LARGEST = float(np.finfo(np.float16).max)


def half_precision(source: Path, path: Path, networks: bool = True) -> Path:
    """fp16 weights and arithmetic inside networks, fp16 storage of the head's bases; everything else stays float32.

    Args:
        networks: whether the graph has any.
    """
    onnx = needed("onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    if networks:
        chosen = network_nodes(model.graph)
        _lower(model.graph, {n.name for n in model.graph.node if n.name in chosen and n.op_type not in FULL})
    pack_weights(model.graph, "fp16")
    onnx.save(model, path)
    return path


def _lower(graph: Any, chosen: set[str]) -> None:
    """The chosen nodes in fp16, with casts only where values cross into them and out of them."""
    onnx = needed("onnx")
    full, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    described = (*graph.input, *graph.output, *graph.value_info)
    floats = {value.name for value in described if value.type.tensor_type.elem_type == full}
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == full}
    floats |= constants.keys()
    leaving = {value.name for value in graph.output}
    leaving |= {name for node in graph.node if node.name not in chosen for name in node.input}
    nodes: list[Any] = []

    def cast(name: str, made: str, to: int) -> None:
        nodes.append(onnx.helper.make_node("Cast", [name], [made], f"{made}/cast", to=to))

    ready: set[str] = set()
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if name not in floats:
                continue
            if name not in ready and name in constants:
                graph.initializer.append(_half(constants[name], f"{name}.half"))
            elif name not in ready:
                cast(name, f"{name}.half", half)
            ready.add(name)
            node.input[i] = f"{name}.half"
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == full:
                attribute.i = half
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in floats:
                ready.add(name)
                node.output[i] = f"{name}.half"
                if name in leaving:
                    cast(f"{name}.half", name, full)
    _replace_nodes(graph, nodes)


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    """Other nodes, without the constants and the descriptions that they no longer have."""
    nodes = list(nodes)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _half(tensor: Any, name: str) -> Any:
    """fp16 without new infinities, and without zeros where a tiny number guards a division."""
    helper = needed("onnx").numpy_helper
    values = helper.to_array(tensor)
    kept = np.where(np.isfinite(values), values.clip(-LARGEST, LARGEST), values)
    kept = np.where((kept != 0) & (np.abs(kept) < TINY), np.sign(kept) * TINY, kept)
    return helper.from_array(kept.astype(np.float16), name)
