"""ArcFace's residual network (Deng 2019; insightface's `iresnet`), sized by its checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.core.tensors import read_state_dict
from tokenface.errors import CheckpointError
from tokenface.identity.alignment import ScaledInput

STAGES = 4
REDUCTION = 2**STAGES


class ResidualUnit(nn.Module):
    """Norm → conv → norm → PReLU → strided conv → norm, beside a shortcut that is projected where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, projected: bool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if projected
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + shortcut


class IResNet(nn.Module):
    """Names of the parameters are insightface's.

    Args:
        depths: residual units of the four stages.  widths: channels of the stem and the stages, five numbers.
        size: side of the pictures.  dimensions: of the vectors.
    """

    def __init__(self, depths: tuple[int, ...], widths: tuple[int, ...], size: int, dimensions: int):
        super().__init__()
        self.size, self.dimensions = size, dimensions
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        for stage in range(STAGES):
            inputs, outputs = widths[stage], widths[stage + 1]
            units = [ResidualUnit(inputs, outputs, 2, True)]
            units += [ResidualUnit(outputs, outputs, 1, False) for _ in range(1, depths[stage])]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*units))
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * (size // REDUCTION) ** 2, dimensions)
        self.features = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, size, size], RGB in [−1, 1] → [B, dimensions]."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(STAGES):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def load_iresnet(path: str | Path) -> ScaledInput:
    """An `iresnet` of any depth and width (r18 … r200) from insightface's `.pth`: tensors alone are unpickled.

    Raises:
        CheckpointError: unreadable, or the tensors are not those of an iresnet.
    """
    state = {re.sub(r"^(module\.|backbone\.)+", "", k): v.float() for k, v in read_state_dict(path).items()}
    network = build_iresnet(state, path)
    return ScaledInput(network, network.size, network.dimensions)


def build_iresnet(state: dict[str, Tensor], path: str | Path = "weights") -> IResNet:
    """The network whose sizes the tensors have, filled with them."""
    needed = ("conv1.weight", "fc.weight", "features.weight", *(f"layer{i}.0.conv1.weight" for i in range(1, 5)))
    missing = [key for key in needed if key not in state]
    if missing:
        raise CheckpointError(
            f"'{path}' is no ArcFace iresnet (it has no '{missing[0]}'); expected insightface's backbone.pth"
        )
    depths = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in range(1, STAGES + 1)
    )
    widths = (
        state["conv1.weight"].shape[0],
        *(state[f"layer{i}.0.conv1.weight"].shape[0] for i in range(1, STAGES + 1)),
    )
    dimensions, inputs = state["fc.weight"].shape
    side = round((inputs / widths[-1]) ** 0.5)
    network = IResNet(depths, widths, side * REDUCTION, dimensions)
    own = network.state_dict()
    for key in own:
        if key not in state and not key.endswith("num_batches_tracked"):
            raise CheckpointError(f"'{path}' lacks the tensor '{key}' of an iresnet; download it again")
        if key in state and own[key].shape != state[key].shape:
            raise CheckpointError(
                f"'{path}' has '{key}' of shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
            )
    network.load_state_dict({k: state.get(k, v) for k, v in own.items()})
    return network


def normalised(features: Tensor) -> Tensor:
    """Unit vectors [B, D], whose products are cosines."""
    return F.normalize(features, dim=-1)
