"""One interface over recognition networks: faces in, feature vectors out, differentiable in the images."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import Tensor, nn

from tokenface.errors import CheckpointError
from tokenface.identity.alignment import IdentityEncoder, aligned_faces
from tokenface.identity.recognition import NAME as SHIPPED
from tokenface.identity.recognition import load_recognition

FORMER = "tokenface-identity"
"""Name of the encoder that came with the package before; it stands for SHIPPED and is going to be removed."""


def faces_for(encoder: IdentityEncoder, image: Tensor, landmarks68: Tensor) -> Tensor:
    """Aligned input faces of the encoder from the network's crops.

    Args:
        image: [B, 3, S, S] in [0, 1].  landmarks68: [B, 68, 2], NDC of the image; no gradient flows through them.
    Returns:
        [B, 3, size, size].
    """
    return aligned_faces(image, landmarks68, encoder.places, encoder.size)


def load_identity_encoder(name_or_path: str | Path = SHIPPED, dimensions: int | None = None) -> IdentityEncoder:
    """An encoder in evaluation mode, its weights frozen; gradients still flow to the pictures.

    Args:
        name_or_path: "tokenface-recognition" (shipped), a `.safetensors` of `save_recognition`, insightface's `.pth` of
            an `iresnet`, or an `.onnx` of a recognition network (needs the extra `onnx`).
        dimensions: what the vectors must have; None: whatever they have.
    Raises:
        CheckpointError: missing, unreadable, or no recognition network.
    """
    encoder = _load(str(name_or_path))
    found = int(encoder.dimensions)  # type: ignore[arg-type]
    if dimensions is not None and found != dimensions:
        raise CheckpointError(f"'{name_or_path}' gives vectors of {found} numbers, expected {dimensions}")
    encoder.eval().requires_grad_(False)
    return encoder  # type: ignore[return-value]


def _load(name_or_path: str) -> nn.Module:
    if name_or_path == FORMER:
        warnings.warn(f"'{FORMER}' was replaced by '{SHIPPED}', which is used instead", FutureWarning, stacklevel=3)
    if name_or_path in (SHIPPED, FORMER):
        return load_recognition()
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"no identity encoder at '{path}'; expected '{SHIPPED}', an insightface .pth or .onnx, or a .safetensors"
        )
    if path.suffix == ".onnx":
        from tokenface.identity.onnx_network import load_onnx_encoder

        return load_onnx_encoder(path)
    if path.suffix == ".safetensors":
        return load_recognition(path)
    from tokenface.identity.iresnet import load_iresnet

    return load_iresnet(path)
