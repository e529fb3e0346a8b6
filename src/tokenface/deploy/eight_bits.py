"""int8 forms of ONNX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from tokenface.deploy.needed import needed
from tokenface.deploy.network_nodes import PRODUCTS, network_nodes
from tokenface.deploy.onnx_files import quiet, share_constants
from tokenface.deploy.stored_weights import pack_weights


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
