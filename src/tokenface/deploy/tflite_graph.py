"""MediaPipe's TFLite networks as torch modules, for export.

Only the operators that the detector and the face mesh are made of; anything else is refused. Inside, tensors are
[B, C, H, W]; TFLite's own order [B, H, W, C] comes back where a reshape depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenface.errors import ModelFileError

DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}
"""Of TFLite's tensor types, those that occur in constants."""
SAME = 0
"""TFLite's padding that keeps ceil(size / stride)."""


@dataclass(frozen=True)
class Step:
    """One operator: which tensors it takes, which one it makes."""

    inputs: tuple[int, ...]
    output: int


class TFLiteGraph(nn.Module):
    """A TFLite network: [B, 3, S, S] float32 → its outputs, in the file's order.

    Raises:
        ModelFileError: unreadable, or with an operator that is not known here.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        model = _read(Path(path))
        graph = model.subgraphs[0]
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        names = _operator_names()
        constants = _Constants(model, graph)
        self.steps: list[Step] = []
        self.operators = nn.ModuleList()
        for operator in graph.operators:
            name = names[codes[operator.opcodeIndex]]
            inputs, output = [int(i) for i in operator.inputs if i >= 0], int(operator.outputs[0])
            if name == "DEQUANTIZE" and inputs[0] in constants:
                constants.alias(output, inputs[0])  # weights that are stored in fp16
                continue
            if name not in _BUILDERS:
                raise ModelFileError(f"'{path}' has the operator {name}, which cannot be exported")
            self.operators.append(_BUILDERS[name](operator.builtinOptions, [constants.get(i) for i in inputs[1:]]))
            flowing = tuple(i for i in inputs if i not in constants)
            self.steps.append(Step(flowing, output))
        self.input = int(graph.inputs[0])
        self.outputs = [int(i) for i in graph.outputs]
        self.size = int(graph.tensors[self.input].shape[1])

    def forward(self, picture: Tensor) -> list[Tensor]:
        values = {self.input: picture}
        for step, operator in zip(self.steps, self.operators, strict=True):
            values[step.output] = operator(*(values[i] for i in step.inputs))
        return [values[i] for i in self.outputs]


class _Constants:
    """Tensors with contents of their own, by number."""

    def __init__(self, model: Any, graph: Any):
        self._arrays: dict[int, np.ndarray] = {}
        for number, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                shape = [int(side) for side in tensor.shape]
                self._arrays[number] = np.asarray(data, np.uint8).view(DTYPES[tensor.type]).reshape(shape)

    def __contains__(self, number: int) -> bool:
        return number in self._arrays

    def get(self, number: int) -> np.ndarray | None:
        return self._arrays.get(number)

    def alias(self, number: int, source: int) -> None:
        self._arrays[number] = self._arrays[source]


class _Convolution(nn.Module):
    """A convolution with TFLite's padding, which is larger at the end; depthwise when there is a group per channel."""

    def __init__(self, options: Any, weight: np.ndarray, bias: np.ndarray | None, depthwise: bool):
        super().__init__()
        # [O, H, W, I], or [1, H, W, C] of a depthwise one, to torch's [O, I / groups, H, W]
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        self.register_buffer("weight", torch.from_numpy(weight.astype(np.float32).transpose(order).copy()))
        values = np.zeros(self.weight.shape[0]) if bias is None else bias
        self.register_buffer("bias", torch.from_numpy(values.astype(np.float32)))
        self.stride = (int(options.strideH), int(options.strideW))
        self.groups = self.weight.shape[0] if depthwise else 1
        self.same = options.padding == SAME
        self.activation = _activation(options)

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            pads: list[int] = []
            for axis in (1, 0):  # torch wants the last axis first
                kernel, stride, size = self.weight.shape[2 + axis], self.stride[axis], x.shape[2 + axis]
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads)
        return self.activation(F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups))


class _Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class _Pad(nn.Module):
    """Zeros around each axis, given in TFLite's order."""

    def __init__(self, amounts: np.ndarray):
        super().__init__()
        batch, rows, columns, channels = [(int(before), int(after)) for before, after in amounts]
        self.amounts = [*columns, *rows, *channels, *batch]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts)


class _Resize(nn.Module):
    def __init__(self, size: np.ndarray):
        super().__init__()
        self.size = (int(size[0]), int(size[1]))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False)


class _Rows(nn.Module):
    """[B, C, H, W] → [B, N, width], in TFLite's order."""

    def __init__(self, shape: np.ndarray):
        super().__init__()
        self.width = int(shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.width)


class _Join(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


def _activation(options: Any) -> nn.Module:
    kind = int(getattr(options, "fusedActivationFunction", 0))
    if kind not in (0, 1):
        raise ModelFileError(f"a fused activation of kind {kind} cannot be exported")
    return nn.ReLU() if kind else nn.Identity()


def _needed(constant: np.ndarray | None) -> np.ndarray:
    if constant is None:
        raise ModelFileError("an operator takes from another what should be a constant; it cannot be exported")
    return constant


def _convolution(options: Any, constants: list, depthwise: bool = False) -> nn.Module:
    bias = constants[1] if len(constants) > 1 else None
    return _Convolution(options, _needed(constants[0]), bias, depthwise)


def _pool(options: Any, constants: list) -> nn.Module:
    return nn.MaxPool2d((int(options.filterHeight), int(options.filterWidth)), (options.strideH, options.strideW))


def _prelu(options: Any, constants: list) -> nn.Module:
    slopes = _needed(constants[0]).astype(np.float32).ravel()
    layer = nn.PReLU(len(slopes))
    layer.weight = nn.Parameter(torch.from_numpy(slopes.copy()), requires_grad=False)
    return layer


_BUILDERS: dict[str, Callable[[Any, list], nn.Module]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": lambda options, constants: _convolution(options, constants, depthwise=True),
    "ADD": lambda options, constants: _Add(),
    "RELU": lambda options, constants: nn.ReLU(),
    "PRELU": _prelu,
    "PAD": lambda options, constants: _Pad(_needed(constants[0])),
    "MAX_POOL_2D": _pool,
    "RESIZE_BILINEAR": lambda options, constants: _Resize(_needed(constants[0])),
    "RESHAPE": lambda options, constants: _Rows(options.newShape),
    "CONCATENATION": lambda options, constants: _Join(),
}


def _read(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    try:
        return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    except Exception as error:  # the flatbuffer reader has no error of its own
        raise ModelFileError(f"'{path}' cannot be read ({error}); run 'tokenface models fetch'") from error


def _operator_names() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
