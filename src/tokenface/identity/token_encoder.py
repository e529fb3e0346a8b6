"""Our own encoder: the component tokens of a trained TokenFace, projected to where people differ most."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tokenface.configuration import from_dict
from tokenface.errors import CheckpointError, ConfigError
from tokenface.formats.files import write_atomically
from tokenface.network.backbone import create_backbone
from tokenface.network.tokenface import TokenFace

FORMAT = "tokenface-identity-2"


@dataclass(frozen=True)
class TokenEncoderConfig:
    """backbone: a name of `list_backbones()`.  size: of its crops, pixels.  tokens: how many travel through it.
    dimensions: of the result."""

    backbone: str
    size: int
    tokens: int
    dimensions: int


class TokenEncoder(nn.Module):
    """[B, 3, size, size], the network's own crops, RGB in [0, 1] → [B, dimensions].

    The tokens of all components are read: what the network says of shape and albedo tells people apart, and what it
    says of pose, light and expression tells by how much that is off.
    """

    aligned = False

    def __init__(self, config: TokenEncoderConfig):
        super().__init__()
        self.config = config
        self.size, self.dimensions = config.size, config.dimensions
        self.backbone = create_backbone(config.backbone, config.size)
        self.component_tokens = nn.Parameter(torch.zeros(config.tokens, self.backbone.width))
        self.head = nn.Linear(config.tokens * self.backbone.width, config.dimensions)

    @staticmethod
    def of(network: TokenFace, dimensions: int) -> TokenEncoder:
        """A copy of the network's backbone and tokens; the projection is still to be found.

        Raises:
            ConfigError: the network has no tokens.
        """
        if network.component_tokens is None:
            raise ConfigError("an identity encoder is made of a network with component tokens, not readout 'global'")
        c = network.config
        encoder = TokenEncoder(TokenEncoderConfig(c.backbone, c.image_size, c.tokens, dimensions))
        encoder.backbone.load_state_dict(network.backbone.state_dict())
        tokens = network.component_tokens
        with torch.no_grad():
            encoder.component_tokens.copy_(
                tokens if network.token_positions is None else tokens + network.token_positions
            )
        return encoder.eval()

    def token_features(self, faces: Tensor) -> Tensor:
        """[B, 3, size, size] → [B, tokens · width], before the projection."""
        tokens = self.backbone(faces, self.component_tokens).tokens
        assert tokens is not None
        return tokens.flatten(1)

    def forward(self, faces: Tensor) -> Tensor:
        return self.head(self.token_features(faces))


def save_token_encoder(path: str | Path, encoder: TokenEncoder, facts: dict[str, object]) -> None:
    """Half precision, atomically; `facts` (training, licence, metrics) travel in the header."""
    header = {"config": dataclasses.asdict(encoder.config), **facts}
    tensors = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in encoder.state_dict().items()
    }
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(header, sort_keys=True)}))


def load_token_encoder(path: str | Path) -> TokenEncoder:
    """In evaluation mode. Raises CheckpointError: damaged, or not an identity encoder of ours."""
    try:
        config = from_dict(TokenEncoderConfig, read_token_encoder(path)["config"])
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        encoder = TokenEncoder(config)
        encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"the identity encoder '{path}' is damaged ({str(error).splitlines()[0]})") from error
    return encoder.eval()


def read_token_encoder(path: str | Path) -> dict[str, Any]:
    """What the file says of itself: config, licence, training, metrics.

    Raises:
        CheckpointError: damaged, or not an identity encoder of ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(FORMAT)
        header = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the identity encoder '{path}' is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"'{path}' is no identity encoder; expected one of 'python -m tokenface.identity.train'")
    return header
