"""Network module of the training step: images in, plain tensors by name out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tokenface.errors import ConfigError
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters


class TrainingModule(nn.Module):
    """Module that DDP and FSDP wrap; its output is a dictionary of tensors, which they and autocast can traverse."""

    def __init__(self, network: TokenFace):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, S, S] → the six components, and "log_sigma", "surface", "anchors", "labels" if it has them."""
        output = self.network.forward_with_extras(images, surface=True)
        extras = {"log_sigma": output.log_sigma, "surface": output.surface, "anchors": output.anchors}
        if self.network.labels is not None:
            extras["labels"] = self.network.labels.coefficients()
        return dict(output.parameters.items()) | {k: v for k, v in extras.items() if v is not None}


@dataclass(frozen=True)
class Prediction:
    """parameters: of B faces, float32.  log_sigma: [B, 68], surface: [B, 4, H, W], anchors: [B, 5, 2], or None.
    labels: [sources, 3, 68, 2] offsets of the data sources' annotators, or None."""

    parameters: FaceParameters
    log_sigma: Tensor | None
    surface: Tensor | None = None
    anchors: Tensor | None = None
    labels: Tensor | None = None

    @staticmethod
    def from_named(named: dict[str, Tensor]) -> Prediction:
        named = {name: value.float() for name, value in named.items()}
        parameters = FaceParameters(**{name: named[name] for name in COMPONENTS})
        extras = {name: named.get(name) for name in ("log_sigma", "surface", "anchors", "labels")}
        return Prediction(parameters, **extras)

    def __getitem__(self, rows: slice) -> Prediction:
        log_sigma, surface, anchors = (
            None if extra is None else extra[rows] for extra in (self.log_sigma, self.surface, self.anchors)
        )
        return Prediction(self.parameters[rows], log_sigma, surface, anchors, self.labels)

    def nothing(self) -> Tensor:
        """Zero loss that touches every output, so that DDP sees all parameters used, also of a head without a loss in
        this step (camera in mode 3d)."""
        values = [value for _, value in self.parameters.items()]
        extras = (self.log_sigma, self.surface, self.anchors, self.labels)
        values += [extra for extra in extras if extra is not None]
        return sum((value.sum() for value in values), values[0].new_zeros(())) * 0.0


def freeze(network: TokenFace, prefixes: tuple[str, ...]) -> int:
    """Freeze the parameters with these name prefixes; returns how many numbers that are.

    Raises:
        ConfigError: a prefix that no parameter has, or nothing left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(has_prefix(name, prefix) for name in names):
            kinds = sorted({".".join(name.split(".")[: 3 if name.startswith("heads.fc") else 1]) for name in names})
            raise ConfigError(f"freeze: no parameter begins with '{prefix}'; there are {', '.join(kinds)}")
    frozen = 0
    for name, parameter in network.named_parameters():
        if any(has_prefix(name, prefix) for prefix in prefixes):
            parameter.requires_grad_(False)
            frozen += parameter.numel()
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError("freeze leaves nothing to train")
    return frozen


def has_prefix(name: str, prefix: str) -> bool:
    """Whether a parameter's name has this prefix, which ends where a part of the name does."""
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")
