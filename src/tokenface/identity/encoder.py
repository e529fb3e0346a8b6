"""One interface over recognition networks: aligned faces in, feature vectors out, differentiable in the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tokenface.errors import CheckpointError

SHIPPED = "tokenface-identity"
"""The encoder that comes with the package, trained on synthetic people."""


@runtime_checkable
class IdentityEncoder(Protocol):
    """size: side of the aligned crops it wants, pixels.  dimensions: length of its vectors."""

    size: int
    dimensions: int

    def __call__(self, faces: Tensor) -> Tensor:
        """Aligned faces [B, 3, size, size], RGB in [0, 1] → [B, dimensions], not normalised."""
        ...


class ScaledInput(nn.Module):
    """A network that wants RGB in [−1, 1] (ArcFace's `(x − 127.5) / 127.5`) behind the interface's [0, 1]."""

    def __init__(self, network: nn.Module, size: int, dimensions: int):
        super().__init__()
        self.network, self.size, self.dimensions = network, size, dimensions

    def forward(self, faces: Tensor) -> Tensor:
        return self.network(faces * 2 - 1)


def load_identity_encoder(name_or_path: str | Path = SHIPPED, dimensions: int | None = None) -> IdentityEncoder:
    """An encoder in evaluation mode, its weights frozen; gradients still flow to the pictures.

    Args:
        name_or_path: "tokenface-identity" (shipped), a `.safetensors` of our own trainer, insightface's `.pth` of an
            `iresnet`, or an `.onnx` of a recognition network (needs the extra `onnx`).
        dimensions: what the vectors must have; None: whatever they have.
    Raises:
        CheckpointError: missing, unreadable, or no recognition network.
    """
    path = _path(name_or_path)
    encoder: nn.Module
    if path.suffix == ".onnx":
        from tokenface.identity.onnx_network import load_onnx_encoder

        encoder = load_onnx_encoder(path)
    elif path.suffix == ".safetensors":
        from tokenface.identity.small import load_small_encoder

        encoder = load_small_encoder(path)
    else:
        from tokenface.identity.iresnet import load_iresnet

        encoder = load_iresnet(path)
    found = int(encoder.dimensions)  # type: ignore[arg-type]
    if dimensions is not None and found != dimensions:
        raise CheckpointError(f"'{path}' gives vectors of {found} numbers, expected {dimensions}")
    encoder.eval().requires_grad_(False)
    return encoder  # type: ignore[return-value]


def _path(name_or_path: str | Path) -> Path:
    if str(name_or_path) == SHIPPED:
        from importlib import resources

        path = Path(str(resources.files("tokenface"))) / "assets" / "weights" / f"{SHIPPED}.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"the identity encoder '{SHIPPED}' is not in this installation; train it with "
                "'python -m tokenface.identity.train', or give an ArcFace checkpoint (.pth, .onnx)"
            )
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"no identity encoder at '{path}'; expected '{SHIPPED}', an insightface .pth or .onnx, or a .safetensors"
        )
    return path
