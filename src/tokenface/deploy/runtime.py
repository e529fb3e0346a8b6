"""Inference runtimes: exported files behind the interface of torch's network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.core.threads import waits_asleep
from tokenface.deploy.graphs import CROPS, HEAD_INPUTS, OUTPUTS, VERTICES
from tokenface.deploy.stored_weights import needed
from tokenface.errors import CheckpointError
from tokenface.network.tokenface import NetworkOutput, TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters

Call = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class AnotherNetwork(nn.Module):
    """Crops [B, 3, S, S] → FaceParameters, as `TokenFace`, computed otherwise."""

    def forward(self, images: Tensor) -> FaceParameters:
        return self.forward_with_extras(images).parameters

    def forward_with_extras(self, images: Tensor) -> NetworkOutput:
        """As `TokenFace.forward_with_extras`."""
        raise NotImplementedError


class BFloat16Network(AnotherNetwork):
    """Torch with products in bfloat16; float32 outside."""

    def __init__(self, network: TokenFace):
        super().__init__()
        self.network = network

    def forward_with_extras(self, images: Tensor) -> NetworkOutput:
        with torch.autocast(images.device.type, torch.bfloat16):
            output = self.network.forward_with_extras(images)
        sigma = None if output.log_sigma is None else output.log_sigma.float()
        return NetworkOutput(output.parameters.to(torch.float32), sigma, output.tokens.float())


class ExportedNetwork(AnotherNetwork):
    """Computed by onnxruntime or OpenVINO on the CPU."""

    def __init__(self, call: Call, image_size: int):
        super().__init__()
        self._call, self.image_size = call, image_size

    def forward_with_extras(self, images: Tensor) -> NetworkOutput:
        size = self.image_size
        if images.shape[1:] != (3, size, size):
            raise ValueError(f"expected crops [B, 3, {size}, {size}], got {tuple(images.shape)}")
        answer = self._call({CROPS: np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)})
        values = {name: torch.from_numpy(answer[name]) for name in OUTPUTS}
        parameters = FaceParameters(**{name: values[name] for name in COMPONENTS})
        return NetworkOutput(parameters, values["log_sigma"], values["tokens"])


def open_network(path: str | Path, image_size: int, threads: int = 0, bf16: bool = False) -> ExportedNetwork:
    """An exported network, `.onnx` or `.xml`; `bf16` lets OpenVINO compute so where the processor can.

    Raises:
        CheckpointError: no such file, or not one of ours.  TokenFaceError: the runtime is not installed.
    """
    return ExportedNetwork(open_graph(path, (CROPS,), OUTPUTS, threads, bf16), image_size)


def open_head(path: str | Path, threads: int = 0) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """An exported head: shape [B, S], expression [B, E], jaw [B, 3] → vertices [B, V, 3], metres."""
    call = open_graph(path, HEAD_INPUTS, (VERTICES,), threads)

    def vertices(*coefficients: Tensor) -> Tensor:
        inputs = {name: value.float().numpy() for name, value in zip(HEAD_INPUTS, coefficients, strict=True)}
        return torch.from_numpy(call(inputs)[VERTICES])

    return vertices


def open_graph(
    path: str | Path, inputs: tuple[str, ...], outputs: tuple[str, ...], threads: int = 0, bf16: bool = False
) -> Call:
    """A graph as a function of named arrays; threads 0: all cores."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist; make it with 'tokenface export'")
    try:
        if path.suffix == ".xml":
            call, names = _openvino(path, outputs, threads, bf16)
        else:
            call, names = _onnx(path, outputs, threads)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"'{path}' cannot be read ({reason}); make it again with 'tokenface export'") from error
    missing = {*inputs, *outputs} - names
    if missing:
        raise CheckpointError(f"'{path}' lacks {', '.join(sorted(missing))}; make it again with 'tokenface export'")
    return call


def _onnx(path: Path, outputs: tuple[str, ...], threads: int) -> tuple[Call, set[str]]:
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for pool in ("intra", "inter"):
        options.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0" if waits_asleep() else "1")
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(str(error)) from error

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(list(outputs), inputs), strict=True))

    return call, {x.name for x in (*session.get_inputs(), *session.get_outputs())}


def _openvino(path: Path, outputs: tuple[str, ...], threads: int, bf16: bool) -> tuple[Call, set[str]]:
    openvino = needed("openvino")
    # fp32 files are meant to be fp32 where a processor would rather compute in bf16
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
    settings["ENABLE_CPU_PINNING"] = False  # a pinned thread waits for its core while others are free
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = compiled(inputs)
        return {name: np.array(answer[name]) for name in outputs}

    return call, {name for port in (*compiled.inputs, *compiled.outputs) for name in port.names}
