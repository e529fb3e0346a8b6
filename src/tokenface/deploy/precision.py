"""Precision of exported ONNX files: fp16 and int8 forms of an fp32 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tokenface.deploy.onnx_files import quiet, share_constants
from tokenface.deploy.stored_weights import PRODUCTS, network_nodes, pack_weights
from tokenface.graphs.sessions import needed

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


def eight_bits(source: Path, path: Path, pictures: Tensor, batch: int = 8) -> Path:
    """Static int8 products inside networks, int8 storage of the head's bases; everything else stays float32.

    Weights per channel, activations with zero points (QDQ form, which onnxruntime and OpenVINO both fuse).

    Args:
        pictures: [N, 3, H, W] of the graph's only input, on which activations are calibrated.
    """
    onnx = needed("onnx")
    needed("onnxruntime")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load(source).graph
    chosen = network_nodes(graph)  # the preparation keeps products' names, but not those of all that is around them
    prepared = path.with_suffix(".prepared.onnx")
    try:
        with quiet():
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                _Calibration(graph.input[0].name, pictures, batch),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_quantize=[node.name for node in graph.node if node.name in chosen],
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    finally:
        prepared.unlink(missing_ok=True)
    return eight_bit_storage(path, path)


def eight_bit_storage(source: Path, path: Path) -> Path:
    """int8 storage of the head's bases alone, fp32 arithmetic: for graphs without a network."""
    onnx = needed("onnx")
    model = onnx.load(source)
    share_constants(model.graph)
    pack_weights(model.graph, "int8")
    onnx.save(model, path)
    return path


class _Calibration:
    """What onnxruntime asks for batches until None comes."""

    def __init__(self, name: str, pictures: Tensor, batch: int):
        self.name = name
        self._batches: Iterator[Tensor] = iter(pictures.split(batch))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self.name: batch.numpy()}


def lowered(full: Path, path: Path, precision: str, pictures: Callable[[], Tensor] | None) -> Path:
    """An fp32 ONNX file as another one of a precision of `graph_names.PRECISIONS`, which for fp32 is the file itself.

    Args:
        pictures: draws what int8 networks are calibrated on, [N, 3, H, W]; None: there is no network in the graph.
    """
    if precision == "fp32":
        return full
    if precision == "fp16":
        return half_precision(full, path, networks=pictures is not None)
    return eight_bit_storage(full, path) if pictures is None else eight_bits(full, path, pictures())
