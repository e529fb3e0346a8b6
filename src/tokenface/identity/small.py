"""Our own small recognition network: separable residual units, 3 MB in half precision, trained on synthetic people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tokenface.configuration import from_dict
from tokenface.errors import CheckpointError, ConfigError
from tokenface.formats.files import write_atomically
from tokenface.identity.encoder import ScaledInput

FORMAT = "tokenface-identity-1"


@dataclass(frozen=True)
class SmallEncoderConfig:
    """widths: channels of the stem and of each stage.  depths: units per stage; each stage halves the picture."""

    size: int = 112
    dimensions: int = 256
    widths: tuple[int, ...] = (32, 64, 128, 192, 256)
    depths: tuple[int, ...] = (1, 2, 4, 2)


class SeparableUnit(nn.Module):
    """Depthwise 3 × 3 between two 1 × 1 convolutions, beside a shortcut where sizes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        inner = 2 * outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.keeps_size = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.keeps_size else self.body(x)


class SmallEncoder(nn.Module):
    """[B, 3, size, size], RGB in [−1, 1] → [B, dimensions]. Every place of the last map has weights of its own, as in
    MobileFaceNet: faces are aligned, so the place says which feature is seen."""

    def __init__(self, config: SmallEncoderConfig | None = None):
        super().__init__()
        self.config = config or SmallEncoderConfig()
        c = self.config
        if len(c.widths) != len(c.depths) + 1 or c.size % 2 ** len(c.depths):
            raise ConfigError("an identity encoder needs one width more than stages, and a size that halves at each")
        layers: list[nn.Module] = [
            nn.Conv2d(3, c.widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(c.widths[0]),
            nn.PReLU(c.widths[0]),
        ]
        for inputs, outputs, depth in zip(c.widths[:-1], c.widths[1:], c.depths, strict=True):
            layers.append(SeparableUnit(inputs, outputs, 2))
            layers += [SeparableUnit(outputs, outputs, 1) for _ in range(depth)]
        self.trunk = nn.Sequential(*layers)
        side, last = c.size // 2 ** len(c.depths), c.widths[-1]
        self.places = nn.Conv2d(last, last, side, groups=last, bias=False)
        self.norm = nn.BatchNorm2d(last)
        self.head = nn.Linear(last, c.dimensions, bias=False)
        self.features = nn.BatchNorm1d(c.dimensions)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.places(self.trunk(x))).flatten(1)
        return self.features(self.head(x))


def save_small_encoder(path: str | Path, encoder: SmallEncoder, facts: dict[str, object]) -> None:
    """Half precision, atomically; `facts` (training, licence, metrics) travel in the header."""
    header = {"config": dataclasses.asdict(encoder.config), **facts}
    tensors = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in encoder.state_dict().items()
    }
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(header, sort_keys=True)}))


def load_small_encoder(path: str | Path) -> ScaledInput:
    """Raises CheckpointError: damaged, or not an identity encoder of ours."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get(FORMAT)
            if header is None:
                raise CheckpointError(f"'{path}' is no identity encoder; expected one of 'tokenface.identity.train'")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        config = from_dict(SmallEncoderConfig, json.loads(header)["config"])
        encoder = SmallEncoder(config)
        encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"the identity encoder '{path}' is damaged ({str(error).splitlines()[0]})") from error
    return ScaledInput(encoder, config.size, config.dimensions)


def contrastive_loss(features: Tensor, identity: Tensor, margin: float = 0.2, temperature: float = 0.07) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020) with CosFace's margin: own pictures must win by `margin`.

    Args:
        features: [B, D].  identity: [B] labels; somebody needs at least two pictures.
    Returns:
        Scalar: mean over the positive pairs of −log p(positive | all others but further positives).
    """
    unit = F.normalize(features, dim=-1)
    cosine = unit @ unit.T
    same = identity[:, None] == identity[None, :]
    own = torch.eye(len(identity), dtype=torch.bool, device=identity.device)
    positive = same & ~own
    negatives = torch.where(same, -torch.inf, cosine / temperature).logsumexp(1, keepdim=True)
    wanted = (cosine - margin) / temperature
    loss = F.softplus(negatives - wanted)  # −log(e^w / (e^w + Σ e^n))
    return loss[positive].mean()
