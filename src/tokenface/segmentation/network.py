"""Small U-Net [Ronneberger et al., 2015] that labels the pixels of a head's crop, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from tokenface.errors import CheckpointError
from tokenface.formats.files import write_atomically

FORMAT = "tokenface-segmentation-1"
FILE = "segmentation.safetensors"
CLASSES = ("background", "skin", "hair", "cover", "eye", "mouth")
"""As `data.scene.picture.SURFACES`, which taught them."""
SIDE = 128
"""Pixels of the crop that the network sees."""
ZOOM = 1.6
"""Side of that crop over the reconstruction's own: hair and neck are on it."""
WIDTHS = (16, 32, 48, 64)


class SegmentationNetwork(nn.Module):
    """Four scales, two convolutions each, down and up again; logits at half the crop's resolution, enlarged."""

    def __init__(self) -> None:
        super().__init__()
        ins = (3, *WIDTHS[:-1])
        self.down = nn.ModuleList(_stage(a, b, stride=2) for a, b in zip(ins, WIDTHS, strict=True))
        self.up = nn.ModuleList(_stage(b + a, a) for a, b in pairwise(WIDTHS))
        self.last = nn.Conv2d(WIDTHS[0], len(CLASSES), 1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] RGB in [0, 1], S a multiple of 16 → logits [B, classes, S, S]."""
        x, seen = images * 2 - 1, []
        for stage in self.down:
            x = stage(x)
            seen.append(x)
        for stage, skip in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = stage(torch.cat([x, skip], dim=1))
        return F.interpolate(self.last(x), scale_factor=2.0, mode="bilinear", align_corners=False)


def save_network(path: Path, network: SegmentationNetwork, facts: Mapping[str, object]) -> None:
    """Half-precision weights and where they come from.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    document = json.dumps(dict(facts), sort_keys=True)
    write_atomically(path, save(arrays, metadata={FORMAT: document}))


@lru_cache(maxsize=2)
def load_network(path: Path | None = None) -> SegmentationNetwork:
    """The shipped network, or one from a file; on the CPU, for inference.

    Raises:
        CheckpointError: no such file, or another kind of file.
    """
    path = path or Path(str(resources.files("tokenface"))) / "assets" / FILE
    network = SegmentationNetwork()
    try:
        with safe_open(str(path), framework="pt") as file:
            if FORMAT not in (file.metadata() or {}):
                raise CheckpointError(f"'{path}' holds no segmentation network; install the package again")
            network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"cannot read the segmentation network '{path}' ({text}); install the package again"
        ) from error
    return network.eval().requires_grad_(False)


def _stage(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
