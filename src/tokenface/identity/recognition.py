"""Face recognition network of dlib (King 2017): 150-px chips to 128 numbers; vectors of detected faces.

Faces of one person lie within about 0.6 of each other, of different people farther apart (Euclidean distance). The
weights are in the public domain; `scripts/convert_recognition.py` made the shipped file from dlib's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from tokenface.core.files import write_atomically
from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError
from tokenface.geometry.batched_similarity import planar_similarity
from tokenface.geometry.crop import Crop, extract
from tokenface.identity.alignment import five_points
from tokenface.identity.dlib_file import DlibLayer, read_dlib_network
from tokenface.weights import RECOGNITION, recognition_path

NAME = RECOGNITION
FORMAT = "tokenface-recognition-1"
CHIP_POINTS = torch.tensor([[46.0, 55.0], [104.0, 55.0], [75.0, 87.0], [52.0, 112.0], [98.0, 112.0]])
"""[5, 2] pixels of the 150-px chip, which spans 0 … 150: eye centres (the one on the left of the picture first), nose
tip, mouth corners."""
MEAN = (122.782, 117.001, 104.298)
"""RGB of the mean face chip, of 0 … 255."""
BLOCKS = (
    *((32, 32, False),) * 3,
    (32, 64, True),
    *((64, 64, False),) * 3,
    (64, 128, True),
    *((128, 128, False),) * 2,
    (128, 256, True),
    *((256, 256, False),) * 2,
    (256, 256, True),
)
"""Residual blocks in order: channels in, channels out, whether the picture is halved."""
FINE, COARSE = 10, 13
"""Blocks after which the 8 × 8 and the 4 × 4 maps are read."""


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution beside a shortcut, then ReLU.

    Where the picture is halved the shortcut is a 2 × 2 mean; what it lacks in channels, and what the unpadded
    convolution lacks in rows and columns, is 0. dlib's affine layers are folded into the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, halved: bool):
        super().__init__()
        self.halved = halved
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2 if halved else 1, padding=0 if halved else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H, W], or half of H and W."""
        inner = self.second(F.relu(self.first(x)))
        if not self.halved:
            return F.relu(inner + x)
        shortcut = F.avg_pool2d(x, 2)
        rows, columns = shortcut.shape[2] - inner.shape[2], shortcut.shape[3] - inner.shape[3]
        inner = F.pad(inner, (0, columns, 0, rows))
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, inner.shape[1] - shortcut.shape[1]))
        return F.relu(inner + shortcut)


class RecognitionNetwork(nn.Module):
    """Chips [B, 3, 150, 150], RGB in [0, 1], faces at CHIP_POINTS → [B, 128]."""

    size = 150
    dimensions = 128
    places = CHIP_POINTS

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(*block) for block in BLOCKS)
        self.head = nn.Linear(256, self.dimensions, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)

    def features(self, chips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Intermediate features: maps [B, 128, 8, 8] and [B, 256, 4, 4], vector [B, 128]."""
        x = (chips * 255 - self.mean) / 256  # type: ignore[operator]
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        maps = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in (FINE, COARSE):
                maps.append(x)
        return maps[0], maps[1], self.head(x.mean((2, 3)))

    def forward(self, chips: Tensor) -> Tensor:
        """[B, 3, 150, 150] → [B, 128], not normalised."""
        return self.features(chips)[2]


def load_recognition(path: str | Path | None = None) -> RecognitionNetwork:
    """The network in evaluation mode, its weights frozen; gradients still flow to the pictures.

    Args:
        path: a file of `save_recognition`; None: the shipped one.
    Raises:
        CheckpointError: missing, damaged, or another file.
    """
    path = recognition_path() if path is None else path
    if not Path(path).is_file():
        raise CheckpointError(
            f"no recognition network at '{path}'; make it with 'python scripts/convert_recognition.py DAT'"
        )
    network = RecognitionNetwork()
    try:
        read_recognition_facts(path)
        with open_tensors(path) as file:
            network.load_state_dict({key: file.get_tensor(key).float() for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"the recognition network '{path}' is damaged ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


def read_recognition_facts(path: str | Path) -> dict[str, str]:
    """Metadata of the file: source, licence, SHA-256 of dlib's file.

    Raises:
        CheckpointError: damaged, or not a recognition network.
    """
    try:
        with open_tensors(path) as file:
            text = (file.metadata() or {}).get(FORMAT)
        facts = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the recognition network '{path}' is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"'{path}' is no recognition network; expected one of scripts/convert_recognition.py")
    return facts


def save_recognition(path: str | Path, network: RecognitionNetwork, facts: dict[str, str]) -> None:
    """Half precision, atomically; the facts travel in the header."""
    tensors = {key: value.half().contiguous().cpu() for key, value in network.state_dict().items()}
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(facts, sort_keys=True)}))


def read_dlib_recognition(path: str | Path) -> RecognitionNetwork:
    """The network from dlib's own file, `dlib_face_recognition_resnet_model_v1.dat`, in single precision.

    Raises:
        CheckpointError: unreadable, or a network of another structure.
    """
    found = read_dlib_network(path)
    network = RecognitionNetwork()
    convolutions = [network.stem]
    for block in network.blocks:
        assert isinstance(block, ResidualBlock)
        convolutions += [block.first, block.second]
    try:
        if found.size != (network.size,) * 2 or max(abs(a - b) for a, b in zip(found.mean, MEAN, strict=True)) > 1e-3:
            raise ValueError("its pictures are others")
        expected = _kinds()
        if [layer.kind for layer in found.layers] != expected:
            raise ValueError("its layers are others")
        layers = iter(found.layers)
        pairs = [(a, next(layers)) for a in layers if a.kind == "con"]
        for own, (convolution, affine) in zip(convolutions, pairs, strict=True):
            _fill(own, convolution, affine)
        _fill_head(network.head, found.layers[-1])
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not dlib's face recognition network ({error})") from error
    return network.eval().requires_grad_(False)


def _kinds() -> list[str]:
    """dlib's names of the layers in order; tags and skips have none."""
    kinds = ["con", "affine", "relu", "max_pool"]
    for _, _, halved in BLOCKS:
        kinds += ["con", "affine", "relu", "con", "affine", *(["avg_pool"] if halved else []), "add_prev", "relu"]
    return [*kinds, "avg_pool", "fc"]


@torch.no_grad()
def _fill(own: nn.Conv2d, convolution: DlibLayer, affine: DlibLayer) -> None:
    """The affine layer's scale and shift folded into the convolution before it."""
    rows, columns = own.kernel_size
    stride, padding, filters = own.stride[0], int(own.padding[0]), own.out_channels
    numbers = (filters, rows, columns, stride, stride, padding, padding)
    if tuple(convolution.numbers.values()) != numbers:
        raise ValueError(f"a convolution of {tuple(convolution.numbers.values())} where {numbers} is expected")
    count = own.weight.numel()
    if len(convolution.parameters) != count + filters or len(affine.parameters) != 2 * filters:
        raise ValueError("a convolution has another number of weights")
    weights = torch.from_numpy(convolution.parameters.astype("f8"))
    gain, shift = torch.from_numpy(affine.parameters.astype("f8")).view(2, filters)
    own.weight.copy_(weights[:count].view_as(own.weight) * gain.view(-1, 1, 1, 1))
    assert own.bias is not None
    own.bias.copy_(weights[count:] * gain + shift)


@torch.no_grad()
def _fill_head(head: nn.Linear, layer: DlibLayer) -> None:
    if len(layer.parameters) != head.weight.numel():
        raise ValueError("its last layer has another number of weights")
    head.weight.copy_(torch.from_numpy(layer.parameters.copy()).view(head.in_features, head.out_features).T)


TOGETHER = 8
"""Chips of a batch: more of them take as long each and more memory."""


@cache
def shipped_recognition() -> RecognitionNetwork:
    """The shipped network, read once."""
    return load_recognition()


def chip_crop(landmarks68: np.ndarray) -> Crop:
    """The square of the photo that is the chip of a face: its five points lie nearest to CHIP_POINTS.

    Args:
        landmarks68: [68, 2] photo pixels.
    """
    points = five_points(torch.from_numpy(np.asarray(landmarks68, np.float64))[None])
    size = RecognitionNetwork.size
    (a, minus_b, x), (b, _, y) = planar_similarity(CHIP_POINTS.double()[None], points)[0].tolist()
    middle = size / 2
    centre = (a * middle + minus_b * middle + x, b * middle + a * middle + y)
    return Crop(centre, math.hypot(a, b) * size, math.atan2(-b, a))


@torch.inference_mode()
def recognition_vectors(
    image: np.ndarray, landmarks68: Sequence[np.ndarray], network: RecognitionNetwork | None = None
) -> np.ndarray:
    """Recognition vectors of the faces of a picture.

    Args:
        image: [H, W, 3] uint8 RGB.  landmarks68: of each face, [68, 2] pixels.
        network: on the CPU; None: the shipped one.
    Returns:
        [N, 128] float32; two vectors of one person are about 0.4 apart, of two people about 0.8 (Euclidean distance).
    """
    network = network or shipped_recognition()
    found = [
        network(extract(image, [chip_crop(points) for points in landmarks68[first : first + TOGETHER]], network.size))
        for first in range(0, len(landmarks68), TOGETHER)
    ]
    return torch.cat(found).numpy() if found else np.empty((0, network.dimensions), np.float32)
