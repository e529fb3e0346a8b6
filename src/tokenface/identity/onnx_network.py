"""ONNX recognition networks as torch modules, for the few operators that they use.

Running the graph in torch, not in ONNX Runtime, is what lets gradients through to the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.errors import CheckpointError
from tokenface.identity.alignment import ScaledInput

MAX_BYTES = 1 << 30

Attributes = dict[str, Any]
Operator = Callable[[list[Any], Attributes], Any]


def load_onnx_encoder(path: str | Path) -> ScaledInput:
    """insightface's recognition models and others of their kind: one picture [B, 3, S, S] in, one vector out.

    Raises:
        CheckpointError: unreadable, an operator that is not known here, or another interface; the extra is missing.
    """
    network = OnnxNetwork(path)
    shape = network.input_shape
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[2]:
        raise CheckpointError(f"'{path}' takes {shape}; expected one picture [batch, 3, size, size]")
    # mxnet's exports begin with their own (x − 127.5)/128, on 0 … 255
    pixels = network.normalises_itself
    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, shape[2], shape[2]))
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise CheckpointError(f"'{path}' does not give one vector per picture; is it a recognition network?")
    wrapped: nn.Module = _FromUnit(network) if pixels else network
    return ScaledInput(wrapped, shape[2], outputs.shape[1])


class _FromUnit(nn.Module):
    """[−1, 1] back to 0 … 255."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x + 1) * 127.5)


class OnnxNetwork(nn.Module):
    """Evaluates an ONNX graph with torch operators, one after the other.

    input_shape: (batch or 0, channels, height, width).
    """

    def __init__(self, path: str | Path):
        super().__init__()
        model = _read(Path(path))
        graph = model.graph
        from onnx import numpy_helper

        self._constants: dict[str, str] = {}
        for number, tensor in enumerate(graph.initializer):
            array = np.array(numpy_helper.to_array(tensor))
            self.register_buffer(f"constant_{number}", torch.from_numpy(array), persistent=False)
            self._constants[tensor.name] = f"constant_{number}"
        inputs = [value for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise CheckpointError(
                f"'{path}' has {len(inputs)} inputs and {len(graph.output)} outputs; expected one each"
            )
        self.input_name, self.output_name = inputs[0].name, graph.output[0].name
        self.input_shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
        self._nodes: list[tuple[Operator, list[str], list[str], Attributes]] = []
        for node in graph.node:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                known = ", ".join(sorted(OPERATORS))
                raise CheckpointError(f"'{path}' uses the operator '{node.op_type}', which is not among {known}")
            attributes = {a.name: _attribute(a) for a in node.attribute}
            self._nodes.append((OPERATORS[node.op_type], list(node.input), list(node.output), attributes))
        first = [node.op_type for node in graph.node[:8]]
        self.normalises_itself = "Conv" in first and any(op in ("Sub", "Mul") for op in first[: first.index("Conv")])

    def forward(self, picture: Tensor) -> Tensor:
        values: dict[str, Any] = {self.input_name: picture}
        values |= {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        for operator, inputs, outputs, attributes in self._nodes:
            result = operator([values[name] if name else None for name in inputs], attributes)
            values[outputs[0]] = result
        return values[self.output_name]


def _read(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise CheckpointError("reading .onnx needs the extra: pip install 'tokenface[onnx]'") from error
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"'{path}' is larger than any recognition network ({MAX_BYTES >> 20} MB)")
    try:
        # external data would let the file name any path
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise CheckpointError(f"'{path}' is no readable ONNX file ({str(error)[:100]}); download it again") from error
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise CheckpointError(f"'{path}' keeps its weights in other files; export it as one file")
    return model


def _attribute(attribute: Any) -> Any:
    from onnx import helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "raw_data"):
        return torch.from_numpy(np.array(numpy_helper.to_array(value)))
    return value


def _convolution(x: list[Any], a: Attributes) -> Tensor:
    picture, pads = _padded(x[0], a)
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(picture, x[1], bias, a.get("strides", (1, 1)), pads, a.get("dilations", (1, 1)), a.get("group", 1))


def _padded(picture: Tensor, a: Attributes, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise CheckpointError(f"padding '{a['auto_pad']}' is not known here; export with explicit pads")
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right) and value == 0:
        return picture, (top, left)
    return F.pad(picture, (left, right, top, bottom), value=value), (0, 0)


def _batch_norm(x: list[Any], a: Attributes) -> Tensor:
    return F.batch_norm(x[0], x[3], x[4], x[1], x[2], training=False, eps=a.get("epsilon", 1e-5))


def _gemm(x: list[Any], a: Attributes) -> Tensor:
    left = x[0].T if a.get("transA") else x[0]
    right = x[1].T if a.get("transB") else x[1]
    product = a.get("alpha", 1.0) * left @ right
    return product if len(x) < 3 or x[2] is None else product + a.get("beta", 1.0) * x[2]


def _prelu(x: list[Any], a: Attributes) -> Tensor:
    slope = x[1].reshape(-1) if x[1].numel() > 1 else x[1].reshape(1)
    return F.prelu(x[0], slope)


def _flatten(x: list[Any], a: Attributes) -> Tensor:
    axis = a.get("axis", 1)
    return x[0].reshape(int(np.prod(x[0].shape[:axis])) if axis else 1, -1)


def _reshape(x: list[Any], a: Attributes) -> Tensor:
    wanted = [int(n) for n in x[1]]
    return x[0].reshape([x[0].shape[i] if n == 0 else n for i, n in enumerate(wanted)])


def _max_pool(x: list[Any], a: Attributes) -> Tensor:
    picture, pads = _padded(x[0], a, value=-torch.inf)
    return F.max_pool2d(picture, a["kernel_shape"], a.get("strides", (1, 1)), pads)


def _average_pool(x: list[Any], a: Attributes) -> Tensor:
    picture, pads = _padded(x[0], a)
    counted = bool(a.get("count_include_pad", 0))
    return F.avg_pool2d(picture, a["kernel_shape"], a.get("strides", (1, 1)), pads, count_include_pad=counted)


def _clip(x: list[Any], a: Attributes) -> Tensor:
    low = x[1] if len(x) > 1 else a.get("min")
    high = x[2] if len(x) > 2 else a.get("max")
    return torch.clamp(x[0], None if low is None else float(low), None if high is None else float(high))


def _axes(x: list[Any], a: Attributes) -> list[int]:
    return [int(n) for n in (x[1] if len(x) > 1 and x[1] is not None else a.get("axes", []))]


def _squeeze(x: list[Any], a: Attributes) -> Tensor:
    axes = _axes(x, a)
    return x[0].squeeze(tuple(axes)) if axes else x[0].squeeze()


def _unsqueeze(x: list[Any], a: Attributes) -> Tensor:
    for axis in sorted(_axes(x, a)):
        x = [x[0].unsqueeze(axis)]
    return x[0]


def _reduce_l2(x: list[Any], a: Attributes) -> Tensor:
    return x[0].norm(dim=tuple(_axes(x, a)) or None, keepdim=bool(a.get("keepdims", 1)))


OPERATORS: dict[str, Operator] = {
    "Add": lambda x, a: x[0] + x[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda x, a: torch.cat([torch.as_tensor(part) for part in x], dim=a["axis"]),
    "Constant": lambda x, a: a["value"],
    "Conv": _convolution,
    "Div": lambda x, a: x[0] / x[1],
    "Dropout": lambda x, a: x[0],
    "Flatten": _flatten,
    "Gather": lambda x, a: (
        x[0].index_select(a.get("axis", 0), x[1].reshape(-1)).squeeze(a.get("axis", 0))
        if x[1].dim() == 0
        else x[0].index_select(a.get("axis", 0), x[1])
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
    "Identity": lambda x, a: x[0],
    "LeakyRelu": lambda x, a: F.leaky_relu(x[0], a.get("alpha", 0.01)),
    "MatMul": lambda x, a: x[0] @ x[1],
    "MaxPool": _max_pool,
    "Mul": lambda x, a: x[0] * x[1],
    "PRelu": _prelu,
    "ReduceL2": _reduce_l2,
    "Relu": lambda x, a: F.relu(x[0]),
    "Reshape": _reshape,
    "Shape": lambda x, a: torch.tensor(x[0].shape),
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Squeeze": _squeeze,
    "Sub": lambda x, a: x[0] - x[1],
    "Transpose": lambda x, a: x[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
