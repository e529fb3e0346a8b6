"""ONNX files in fp32 and OpenVINO IR from them; `precision` makes smaller ones."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.deploy.graph_names import CROPS, HEAD_INPUTS, OUTPUTS, VERTICES
from tokenface.deploy.graphs import LARGEST_BATCH, HeadGraph, ParameterGraph, example_coefficients, example_crops
from tokenface.deploy.mip_crops import LARGEST_PHOTO, SMALLEST_PHOTO
from tokenface.deploy.photo_graph import PHOTO_OUTPUTS, PHOTOS, PhotoGraph, example_photos
from tokenface.deploy.stored_weights import LARGE
from tokenface.graphs.sessions import needed
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace

OPSET = 18


def export_network(network: TokenFace, path: Path) -> Path:
    """Crops to parameters in fp32, any batch size."""
    return export_graph(ParameterGraph(network), (example_crops(network),), (CROPS,), OUTPUTS, path)


def export_photos(graph: PhotoGraph, path: Path) -> Path:
    """Photos to parameters and heads in fp32, any batch and photo size."""
    sides = [torch.export.Dim(side, min=SMALLEST_PHOTO, max=LARGEST_PHOTO) for side in ("height", "width")]
    return export_graph(
        graph, (example_photos(),), (PHOTOS,), PHOTO_OUTPUTS, path, dict(zip((2, 3), sides, strict=True))
    )


def export_head(head: HeadModel, path: Path) -> Path:
    """Shape, expression and jaw to vertices in fp32, any batch size."""
    return export_graph(HeadGraph(head), example_coefficients(head), HEAD_INPUTS, (VERTICES,), path)


def export_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    path: Path,
    sides: dict[int, Any] | None = None,
) -> Path:
    """A module of tensors as an fp32 ONNX file whose nodes are called `module.path/name`; any batch size.

    Args:
        sides: other dimensions than the batch that are free, of every input.
    """
    for package in ("onnx", "onnxscript"):
        needed(package)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with quiet(), torch.no_grad():
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
    onnx = needed("onnx")
    model = onnx.load(path)
    _name_by_module(model.graph)
    share_constants(model.graph)
    onnx.save(model, path)
    return path


def share_constants(graph: Any) -> None:
    """Equal constants become one: a network that is called twice has its weights once."""
    to_array = needed("onnx").numpy_helper.to_array
    first: dict[tuple, str] = {}
    same: dict[str, str] = {}
    for tensor in list(graph.initializer):
        name = first.setdefault((tensor.data_type, tuple(tensor.dims), to_array(tensor).tobytes()), tensor.name)
        if name != tensor.name:
            same[tensor.name] = name
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def _name_by_module(graph: Any) -> None:
    """Nodes are called `module.path/name`; the exporter's long notes (source lines, stacks) go."""
    for node in graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
        node.name = f"{scopes[-2] if len(scopes) > 1 else ''}/{node.name}"
    for part in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk a lot; what they say concerns their authors."""
    level = logging.getLogger().level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger().setLevel(level)


def convert(source: Path, path: Path, packed: bool = False) -> Path:
    """ONNX → IR of the same precision (OpenVINO computes in what the device does best).

    Args:
        packed: constants that fp16 holds exactly are stored so, as those of our fp16 and int8 files are: the
            conversion unpacks them. An int8 file in QDQ form stays int8 by itself.
    """
    openvino = needed("openvino")
    with _unreported():
        model = openvino.convert_model(str(source))
    if packed:
        _pack(model)
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """OpenVINO reports conversions to its makers over the network, from processes that it forks beside whatever threads
    run here, but not those of a CI job: so it is told that this is one."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def _pack(model: Any) -> None:
    from openvino import opset13 as operators

    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        values = node.data
        if values.size < LARGE or not (values.astype(np.float16) == values).all():
            continue
        users = list(node.output(0).get_target_inputs())
        unpacked = operators.convert(operators.constant(values.astype(np.float16)), "f32")
        for user in users:
            user.replace_source_output(unpacked.output(0))
