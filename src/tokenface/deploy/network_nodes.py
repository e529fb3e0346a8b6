"""Which nodes of an exported graph may lose precision: those of its networks, never those of its geometry."""

from __future__ import annotations

from typing import Any

from tokenface.errors import TokenFaceError

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
