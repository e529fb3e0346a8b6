"""What a recognition network is to the losses: aligned faces in, feature vectors out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tokenface.identity.alignment import ARCFACE_POINTS


@runtime_checkable
class IdentityEncoder(Protocol):
    """size: side of the crops it wants, pixels.  dimensions: length of its vectors.  places: [5, 2] where in its crops
    it wants the eye centres, nose tip and mouth corners, pixels, the crop spanning 0 … size."""

    size: int
    dimensions: int

    @property
    def places(self) -> Tensor: ...

    def __call__(self, faces: Tensor) -> Tensor:
        """[B, 3, size, size], RGB in [0, 1] → [B, dimensions], not normalised."""
        ...


class ScaledInput(nn.Module):
    """A network that wants aligned RGB in [−1, 1] (ArcFace's `(x − 127.5) / 127.5`) behind the interface's [0, 1]."""

    def __init__(self, network: nn.Module, size: int, dimensions: int):
        super().__init__()
        self.network, self.size, self.dimensions = network, size, dimensions

    @property
    def places(self) -> Tensor:
        return (ARCFACE_POINTS + 0.5) * (self.size / 112)

    def forward(self, faces: Tensor) -> Tensor:
        return self.network(faces * 2 - 1)
