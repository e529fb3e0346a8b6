"""Files in fewer bits: what is lowered is lowered for real, what must not be is not, and the answers stay near."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_deploy import SIZE, crops, largest_difference

from tokenface.deploy.graphs import HeadGraph, example_coefficients
from tokenface.deploy.onnx_files import export_graph, export_head
from tokenface.deploy.precision import eight_bits, half_precision, lowered
from tokenface.deploy.runtime import open_head, open_network
from tokenface.errors import TokenFaceError
from tokenface.graphs.sessions import open_graph
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.network import TokenFace

onnx = pytest.importorskip("onnx", reason="needs the extra 'deploy'")
pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")


@pytest.fixture(scope="module")
def network(exported_network) -> TokenFace:
    return exported_network[0]


@pytest.fixture(scope="module")
def full(exported_network) -> Path:
    return exported_network[1]


def products(path: Path) -> Counter[str]:
    """How many products an ONNX file has in each precision: of its weights, or of what it multiplies by."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    maker = {value: node for node in graph.node for value in node.output}
    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            by = maker.get(node.input[1])
            eight = by is not None and by.op_type == "DequantizeLinear"
            found["int8" if eight else names[types[node.input[1]]]] += 1
    return found


def test_half_precision_is_smaller_and_close(network, full, tmp_path):
    path = half_precision(full, tmp_path / "parameters.fp16.onnx")
    assert path.stat().st_size < 0.6 * full.stat().st_size
    assert 0 < largest_difference(network, open_network(path, SIZE), crops(2)) < 0.05
    before, half = products(full), products(path)
    assert before["fp16"] == 0
    assert half["fp32"] == 7  # the linear heads of the components and of the uncertainty
    assert half["fp16"] == before["fp32"] - 7 > 30


def test_eight_bits_are_smaller_and_near(network, full, tmp_path):
    path = eight_bits(full, tmp_path / "parameters.int8.onnx", crops(16, seed=3), batch=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parameters.int8.onnx"]
    assert path.stat().st_size < 0.5 * full.stat().st_size
    difference = largest_difference(network, open_network(path, SIZE), crops(2))
    assert 0 < difference < 3  # quantised for real, and not nonsense (tokens are of order 1)
    before, eight = products(full), products(path)
    assert eight["fp32"] == 7
    assert eight["int8"] == before["fp32"] - 7


class OnAPhoto(torch.nn.Module):
    """A network that places a point in its crop, and geometry that places the crop in a large photo."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(392, 2)
        )
        self.register_buffer("corner", torch.tensor([5000.123, 3000.457]))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        crops = 2 * pictures - 1  # what enters a network enters nothing else
        return 0.001 * self.network(crops) + self.corner + pictures.mean((1, 2, 3))[:, None] * 1000


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_pixel_coordinates_keep_their_precision(tmp_path, precision):
    module, pictures = OnAPhoto().eval(), torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    full = export_graph(module, (pictures,), ("pictures",), ("point",), tmp_path / "point.fp32.onnx")
    path = tmp_path / f"point.{precision}.onnx"
    half_precision(full, path) if precision == "fp16" else eight_bits(full, path, pictures)
    assert products(path) == {precision: 1, "fp32": 1}  # the convolution, and the product that gives the answer
    answer = open_graph(path, ("pictures",), ("point",))({"pictures": pictures[:3].numpy()})["point"]
    with torch.no_grad():
        assert np.abs(answer - module(pictures[:3]).numpy()).max() < 0.002  # a step of fp16 is four pixels there


@pytest.fixture(scope="module")
def large_head(tmp_path_factory) -> tuple[HeadModel, Path]:
    """OpenHead in fp32, moved off the numbers that fp16 holds exactly, in which it is shipped."""
    data = load_head("openhead").data
    head = HeadModel(replace(data, shape_basis=data.shape_basis.astype(np.float32) * np.float32(1.001)))
    return head, export_head(head, tmp_path_factory.mktemp("head") / "head.fp32.onnx")


@pytest.mark.parametrize(
    ("precision", "size", "mean", "largest"), [("fp16", 0.52, 0.002, 0.02), ("int8", 0.29, 0.1, 0.5)]
)
def test_heads_in_fewer_bits_are_smaller_and_close(large_head, tmp_path, precision, size, mean, largest):
    head, full = large_head
    path = lowered(full, tmp_path / f"head.{precision}.onnx", precision, None)
    files, weights = [path], [path]
    if importlib.util.find_spec("openvino"):
        from tokenface.deploy.onnx_files import convert

        files.append(convert(path, path.with_suffix(".xml"), packed=True))
        weights.append(path.with_suffix(".bin"))
    assert all(part.stat().st_size < size * full.stat().st_size for part in weights)
    inputs = example_coefficients(head, 3, seed=1)
    with torch.no_grad():
        expected = HeadGraph(head)(*inputs)
    for file in files:
        millimetres = 1000 * (open_head(file)(*inputs) - expected).norm(dim=-1)
        assert 1e-4 < float(millimetres.mean()) < mean, file.name
        assert float(millimetres.max()) < largest, file.name


def test_a_graph_without_a_network_is_refused(large_head, tmp_path):
    with pytest.raises(TokenFaceError, match="export it again"):
        half_precision(large_head[1], tmp_path / "head.fp16.onnx")
