"""Exported graphs: crops to parameters and parameters to vertices, as modules of plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace

LARGEST_BATCH = 4096


class ParameterGraph(nn.Module):
    """Crops [B, 3, S, S] → one tensor for each of `OUTPUTS`."""

    def __init__(self, network: TokenFace):
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        output = self.network.forward_with_extras(crops)
        sigma = output.log_sigma
        if sigma is None:  # a network without uncertainty: nothing is certain
            sigma = output.tokens.new_zeros(output.tokens.shape[0], 68)
        return (*(value for _, value in output.parameters.items()), sigma, output.tokens)


class HeadGraph(nn.Module):
    """Shape [B, S], expression [B, E], jaw [B, 3] → vertices [B, V, 3], metres, head space."""

    def __init__(self, head: HeadModel):
        super().__init__()
        self.head = head

    def forward(self, shape: Tensor, expression: Tensor, jaw: Tensor) -> Tensor:
        return self.head(shape, expression, jaw).vertices


def example_crops(network: TokenFace, batch: int = 2, seed: int = 0) -> Tensor:
    """[B, 3, S, S] noise of the right size."""
    size = network.config.image_size
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def example_coefficients(head: HeadModel, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, expression and jaw within what people do."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(batch, head.sizes.shape, generator=generator)
    expression = torch.rand(batch, head.sizes.expression, generator=generator)
    return shape, expression, 0.1 * torch.randn(batch, 3, generator=generator)
