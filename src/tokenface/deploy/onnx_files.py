"""ONNX files: the graphs in fp32, their fp16 and int8 forms."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.deploy.graphs import (
    CROPS,
    HEAD_INPUTS,
    LARGEST_BATCH,
    OUTPUTS,
    VERTICES,
    HeadGraph,
    ParameterGraph,
    example_coefficients,
    example_crops,
)
from tokenface.deploy.mip_crops import LARGEST_PHOTO, SMALLEST_PHOTO
from tokenface.deploy.photo_graph import PHOTO_OUTPUTS, PHOTOS, PhotoGraph, example_photos
from tokenface.errors import TokenFaceError
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace

OPSET = 18


def export_network(network: TokenFace, path: Path) -> Path:
    """Crops to parameters in fp32, any batch size."""
    return _export(ParameterGraph(network), (example_crops(network),), (CROPS,), OUTPUTS, path)


def export_photos(graph: PhotoGraph, path: Path) -> Path:
    """Photos to parameters and heads in fp32, any batch and photo size."""
    sides = [torch.export.Dim(side, min=SMALLEST_PHOTO, max=LARGEST_PHOTO) for side in ("height", "width")]
    return _export(graph, (example_photos(),), (PHOTOS,), PHOTO_OUTPUTS, path, dict(zip((2, 3), sides, strict=True)))


def export_head(head: HeadModel, path: Path) -> Path:
    """Shape, expression and jaw to vertices in fp32, any batch size."""
    return _export(HeadGraph(head), example_coefficients(head), HEAD_INPUTS, (VERTICES,), path)


def half_precision(source: Path, path: Path) -> Path:
    """fp16 weights and arithmetic; inputs and outputs stay float32."""
    onnx = needed("onnx")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every weight too small for fp16 has a line of its own
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), path)
    return path


def eight_bits(source: Path, path: Path, crops: Tensor, batch: int = 8) -> Path:
    """Static int8 quantisation, calibrated on crops [N, 3, S, S]; the heads, which give the numbers, stay fp32.

    Weights per channel, activations with zero points (QDQ form, which onnxruntime and OpenVINO both fuse).
    """
    needed("onnxruntime")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    try:
        with _quiet():
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                _Calibration(crops, batch),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                nodes_to_exclude=_head_nodes(prepared),
                calibrate_method=CalibrationMethod.MinMax,
            )
    finally:
        prepared.unlink(missing_ok=True)
    return path


def needed(package: str):
    """The package, or one line that says how to get it."""
    try:
        return __import__(package)
    except ImportError as error:
        raise TokenFaceError(f"this needs the '{package}' package; run pip install 'tokenface[deploy]'") from error


class _Calibration:
    """What onnxruntime asks for batches until None comes."""

    def __init__(self, crops: Tensor, batch: int):
        self._batches: Iterator[Tensor] = iter(crops.split(batch))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {CROPS: batch.numpy()}


def _head_nodes(path: Path) -> list[str]:
    """Matrix products from which an output is reached through sums, products and reshapes alone: the linear heads."""
    graph = needed("onnx").load(path).graph
    maker = {name: node for node in graph.node for name in node.output}
    found, waiting = [], [output.name for output in graph.output]
    seen: set[str] = set()
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in ("MatMul", "Gemm"):
            found.append(node.name)
        elif node.op_type not in ("LayerNormalization", "Softmax", "Conv"):
            waiting.extend(node.input)
    return found


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    path: Path,
    sides: dict[int, Any] | None = None,
) -> Path:
    """`sides`: other dimensions than the batch that are free, of every input."""
    for package in ("onnx", "onnxscript"):
        needed(package)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval().cpu(),
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch, **(sides or {})} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), include_initializers=True, external_data=False)
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk a lot; what they say concerns their authors."""
    level = logging.getLogger().level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)
