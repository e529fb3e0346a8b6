"""One interface over recognition networks: faces in, feature vectors out, differentiable in the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.errors import CheckpointError
from tokenface.identity.alignment import aligned_faces

SHIPPED = "tokenface-identity"
"""The encoder that comes with the package (docs/training.md)."""


@runtime_checkable
class IdentityEncoder(Protocol):
    """size: side of the crops it wants, pixels.  dimensions: length of its vectors.  aligned: it wants faces brought
    to ArcFace's places (`alignment.py`); else the network's own crops, as they are."""

    size: int
    dimensions: int
    aligned: bool

    def __call__(self, faces: Tensor) -> Tensor:
        """[B, 3, size, size], RGB in [0, 1] → [B, dimensions], not normalised."""
        ...


def faces_for(encoder: IdentityEncoder, image: Tensor, landmarks68: Tensor) -> Tensor:
    """What the encoder wants to see of the network's crops.

    Args:
        image: [B, 3, S, S] in [0, 1].  landmarks68: [B, 68, 2], NDC of the image; no gradient flows through them.
    Returns:
        [B, 3, size, size].
    """
    if encoder.aligned:
        return aligned_faces(image, landmarks68, encoder.size)
    return resized(image, encoder.size)


def resized(image: Tensor, size: int) -> Tensor:
    """[B, 3, S, S] → [B, 3, size, size], averaged where it shrinks."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, (size, size), mode="bilinear", antialias=image.shape[-1] > size, align_corners=False)


class ScaledInput(nn.Module):
    """A network that wants aligned RGB in [−1, 1] (ArcFace's `(x − 127.5) / 127.5`) behind the interface's [0, 1]."""

    aligned = True

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
        from tokenface.identity.token_encoder import load_token_encoder

        encoder = load_token_encoder(path)
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
