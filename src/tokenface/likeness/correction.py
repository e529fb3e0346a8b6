"""What is wrong with an answered shape, read off the front view by a linear map; a small file beside the weights."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tokenface import rotations
from tokenface.camera import Camera
from tokenface.errors import CheckpointError
from tokenface.formats.files import write_atomically
from tokenface.head.model import HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.likeness.descriptor import Describer
from tokenface.likeness.front import FrontView
from tokenface.network.components import FaceParameters
from tokenface.weights import companion

FORMAT = "tokenface-likeness-1"
CLIP = 6.0
"""Standard deviations beyond which a descriptor says no more: pictures unlike all that were learned from."""
ROUNDS = 2
"""Of the camera's fit."""

logger = logging.getLogger("tokenface")


@dataclass(frozen=True, eq=False)
class LinearMap:
    """mean, scale: [D] of the descriptors.  matrix: [D, S] to the shape's error, coefficients.  bias: [S]."""

    mean: Tensor
    scale: Tensor
    matrix: Tensor
    bias: Tensor

    def __call__(self, descriptors: Tensor) -> Tensor:
        """[B, D] → [B, S]."""
        standard = ((descriptors - self.mean) / self.scale).clamp(-CLIP, CLIP)
        return standard @ self.matrix + self.bias

    def times(self, share: float) -> LinearMap:
        """A map to that share of every error."""
        return replace(self, matrix=share * self.matrix, bias=share * self.bias)


class Likeness:
    """The correction of one network's answers.

    Args:
        head: of the answers.  linear: learned by `tokenface train-likeness`.
        facts: how it was learned and how much it helps; "weights" is the hash of the weights that it belongs to.
    Raises:
        CheckpointError: the map is not one of this head model.
    """

    def __init__(self, head: HeadModel, linear: LinearMap, facts: dict[str, Any]):
        self.head, self.linear, self.facts = head, linear, facts
        self.front = FrontView(head)
        self.describe = Describer(self.front)
        self._subset = VertexSubset(head, mesh468=False)
        if linear.matrix.shape != (self.describe.length, head.sizes.shape):
            raise CheckpointError(
                f"this likeness reads {linear.matrix.shape[0]} numbers and gives {linear.matrix.shape[1]}; for "
                f"'{head.name}' it needs {self.describe.length} and {head.sizes.shape}"
            )

    @property
    def weights_hash(self) -> str:
        return str(self.facts["weights"])

    def __call__(self, images: Tensor, answer: FaceParameters) -> FaceParameters:
        """The answer with another shape, and with the camera that keeps the landmarks where they were.

        Args:
            images: [B, 3, S, S] crops, RGB in [0, 1], float32 on the CPU.  answer: of the network for them.
        """
        return self.moved(answer, self.correction(images, answer))

    @torch.inference_mode()
    def correction(self, images: Tensor, answer: FaceParameters) -> Tensor:
        """[B, S] what the pictures say that the answered shapes lack. Args as above."""
        return self.linear(self.describe(self.front(images, answer), answer))

    @torch.inference_mode()
    def moved(self, answer: FaceParameters, correction: Tensor) -> FaceParameters:
        """The answer with its shape moved by [B, S], and the camera that keeps the landmarks where they were."""
        better = answer.replace(shape=answer.shape + correction)
        return better.replace(camera=self._kept_in_place(answer, better))

    def _kept_in_place(self, before: FaceParameters, after: FaceParameters) -> Tensor:
        """[B, 7] the camera that puts the new head's landmarks nearest to where the old head's are: size, place and
        rotation by a few rounds of Gauss and Newton; depth stays."""
        camera = Camera.from_vector(before.camera)
        yaw = camera.angles()[:, 0]
        old, new = (self._points(p, yaw) for p in (before, after))
        target = camera.project(old)[..., :2]
        for _ in range(ROUNDS):
            camera = _nearer(camera, new, target)
        return camera.to_vector()

    def _points(self, faces: FaceParameters, yaw: Tensor) -> Tensor:
        return self._subset.landmarks68(self._subset.vertices(faces), yaw)


def _nearer(camera: Camera, points: Tensor, target: Tensor) -> Camera:
    """One round of least squares. points: [B, N, 3] head space.  target: [B, N, 2] crop NDC."""
    x, y, z = camera.rotate(points).unbind(-1)
    one, none, scale = torch.ones_like(x), torch.zeros_like(x), camera.scale[:, None]
    # how a point moves on the picture with the scale, the place, and small turns about the camera's three axes
    across = [x, one, none, none, z * scale, -y * scale]
    down = [-y, none, -one, z * scale, none, -x * scale]
    slopes = torch.stack([torch.stack(across, -1), torch.stack(down, -1)], 2).flatten(1, 2)  # [B, 2 N, 6]
    left = (target - camera.project(points)[..., :2]).flatten(1)[..., None]
    system = slopes.mT @ slopes + torch.diag(slopes.new_tensor([1e-6, 1e-6, 1e-6, 1e-3, 1e-3, 1e-3]))
    step = torch.linalg.solve(system, slopes.mT @ left)[..., 0]
    rotation = rotations.rotvec_to_rotmat(step[:, 3:]) @ camera.rotation_matrix()
    translation = camera.translation + torch.nn.functional.pad(step[:, 1:3], (0, 1))
    return Camera(camera.scale + step[:, 0], rotations.rotmat_to_rotvec(rotation), translation)


def likeness_path(weights: str | Path) -> Path:
    return companion(weights, "likeness")


def save_likeness(path: str | Path, linear: LinearMap, facts: dict[str, Any]) -> None:
    """Half precision for the matrix.  Raises OutputError: it cannot be written."""
    tensors = {"mean": linear.mean, "scale": linear.scale, "matrix": linear.matrix.half(), "bias": linear.bias}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(facts, sort_keys=True)}))


def read_likeness(path: str | Path, head: HeadModel) -> Likeness:
    """A file that `save_likeness` wrote.

    Raises:
        CheckpointError: missing, damaged, or of another head model.
    """
    path = Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FORMAT])
            tensors = {name: file.get_tensor(name).float() for name in ("mean", "scale", "matrix", "bias")}
        if not isinstance(facts["weights"], str) or tensors["matrix"].dim() != 2:
            raise ValueError("other contents")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"the likeness '{path}' is damaged or of another version ({' '.join(str(error).split())}); make it again "
            "with 'tokenface train-likeness'"
        ) from error
    return Likeness(head, LinearMap(**tensors), facts)


def find_likeness(weights: Path, weights_hash: str, head: HeadModel) -> Likeness | None:
    """The likeness beside some weights; None, and a line in the log, where it belongs to others or is damaged."""
    path = likeness_path(weights)
    if not path.is_file():
        return None
    try:
        found = read_likeness(path, head)
    except CheckpointError as error:
        logger.warning("%s", error)
        return None
    if found.weights_hash != weights_hash:
        logger.warning("'%s' was made for other weights; make it again: tokenface train-likeness %s", path, weights)
        return None
    return found
