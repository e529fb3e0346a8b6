"""Inference runtimes: exported files behind the interface of torch's network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.deploy.graph_names import CROPS, HEAD_INPUTS, OUTPUTS, VERTICES
from tokenface.graphs.sessions import Call, open_graph
from tokenface.network.heads import ComponentHeads
from tokenface.network.tokenface import NetworkOutput, TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters


class AnotherNetwork(nn.Module):
    """Crops [B, 3, S, S] → FaceParameters, as `TokenFace`, computed otherwise.

    heads: torch's, which turn tokens into parameters (clips do that); None: they are not at hand.
    """

    heads: ComponentHeads | None

    def __init__(self) -> None:
        super().__init__()
        self.heads = None  # not of the class: it would hide the module that is assigned later

    def forward(self, images: Tensor) -> FaceParameters:
        return self.forward_with_extras(images).parameters

    def forward_with_extras(self, images: Tensor) -> NetworkOutput:
        """As `TokenFace.forward_with_extras`."""
        raise NotImplementedError


class BFloat16Network(AnotherNetwork):
    """Torch with products in bfloat16; float32 outside."""

    def __init__(self, network: TokenFace):
        super().__init__()
        self.network, self.heads = network, network.heads

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


def open_network(
    source: str | Path | bytes, image_size: int, threads: int = 0, bf16: bool = False, runtime: str | None = None
) -> ExportedNetwork:
    """An exported network; arguments and errors as `open_graph`."""
    return ExportedNetwork(open_graph(source, (CROPS,), OUTPUTS, threads, bf16, runtime), image_size)


def open_head(path: str | Path, threads: int = 0) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """An exported head: shape [B, S], expression [B, E], jaw [B, 3] → vertices [B, V, 3], metres."""
    call = open_graph(path, HEAD_INPUTS, (VERTICES,), threads)

    def vertices(*coefficients: Tensor) -> Tensor:
        inputs = {name: value.float().numpy() for name, value in zip(HEAD_INPUTS, coefficients, strict=True)}
        return torch.from_numpy(call(inputs)[VERTICES])

    return vertices
