"""Predictor: face crops to parameters, landmarks, uncertainty and component tokens, on any runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.core.device import choose_device
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import TEST_SCALE, Crop, extract
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.model import HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.inference.calibration import Calibration, calibrated_features, find_calibration
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.inference.checkpoint_facts import calibration_facts, crop_scale, model_facts
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Origin
from tokenface.inference.photos import BATCH_SIZE
from tokenface.inference.prediction import Prediction
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters
from tokenface.version import __version__
from tokenface.weights import file_hash, find_weights

Runner = Callable[[TokenFace, HeadModel, Origin], nn.Module]
"""What the network of a checkpoint runs as: itself, or its file on another runtime."""


class Predictor:
    """A network with its head model and what belongs to its weights.

    Args:
        network: maps crops [B, 3, S, S], RGB in [0, 1], to FaceParameters.
        head: the head model it was trained for.
        crop_size: S, pixels.
        origin: name and hash of the weights.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        crop_scale: enlargement of the landmarks' box to the crop, as in training.
    """

    def __init__(
        self,
        network: nn.Module,
        head: HeadModel,
        crop_size: int,
        origin: Origin,
        device: str | torch.device = "auto",
        crop_scale: float = TEST_SCALE,
    ) -> None:
        self.device = choose_device(device)
        self.network = network.to(self.device).eval()
        self.head = head.cpu()
        self.crop_size = crop_size
        self.origin = origin
        self.crop_scale = crop_scale
        self.path: Path | None = None  # of the weights' file, where there is one
        self.calibration: Calibration | None = None  # of the confidence

    @classmethod
    def load(cls, name_or_path: str | os.PathLike | None = None, device: str | torch.device = "auto") -> Self:
        """Weights by name or path; see `tokenface.load`.

        Raises:
            CheckpointError: no such weights, unreadable, or made for another head model.
            TokenFaceError: the device is not available.
        """
        return cls._loaded(name_or_path, device, lambda network, head, origin: network)

    @classmethod
    def _loaded(cls, name_or_path: str | os.PathLike | None, device: str | torch.device, runner: Runner) -> Self:
        path = find_weights(name_or_path)
        network, head, facts = load_checkpoint(path)
        origin = Origin(path.stem, file_hash(path), head.data.geometry_hash())
        scale = crop_scale(path, facts)
        running = runner(network, head, origin)
        predictor = cls(running, head, network.config.image_size, origin, device, crop_scale=scale)
        predictor.path = path
        predictor.calibration = find_calibration(path, origin.weights_hash, calibration_facts(path))
        return predictor

    @property
    def has_tokens(self) -> bool:
        """Whether the network gives component tokens that `decoded` turns into parameters."""
        return getattr(self.network, "heads", None) is not None

    def predict(self, crops: Tensor, batch_size: int = BATCH_SIZE) -> FaceParameters:
        """Crops [B, 3, S, S] to parameters on the CPU, float32; expression weights in the head model's range.

        Raises:
            CheckpointError: the network gives numbers that are not finite.
        """
        return self._passed(crops, batch_size)[0]

    def predictions(
        self, images: Sequence[np.ndarray], crops: Sequence[Crop], batch_size: int = BATCH_SIZE, *, mesh468: bool = True
    ) -> list[Prediction]:
        """One prediction for each crop.

        Args:
            images: [H, W, 3] uint8, the picture that each crop is of.
            mesh468: the face mesh's points, too.
        Raises:
            CheckpointError: the network gives numbers that are not finite.
        """
        if not crops:
            return []
        pixels = torch.cat([extract(image, [crop], self.crop_size) for image, crop in zip(images, crops, strict=True)])
        parameters, sigmas, tokens = self._passed(pixels, batch_size)
        vectors = parameters.camera.double().numpy()
        cameras = [FaceCamera(v, c, image.shape[:2]) for v, c, image in zip(vectors, crops, images, strict=True)]
        points68, points468 = self._landmarks(parameters, cameras, mesh468)
        return [
            Prediction(one_of(parameters, i), camera, points68[i], points468[i], sigmas[i], tokens[i], pixels[i])
            for i, camera in enumerate(cameras)
        ]

    @torch.inference_mode()
    def decoded(self, tokens: Tensor) -> list[FaceParameters]:
        """Component tokens [B, T, D] to the parameters of each, as in `predictions`.

        Raises:
            CheckpointError: the network gives numbers that are not finite.
        """
        heads = self.network.heads
        assert isinstance(heads, nn.Module)
        parameters = self._finished(heads(tokens.to(self.device))[0].to("cpu", torch.float32))
        return [one_of(parameters, index) for index in range(len(tokens))]

    def calibrated(self, features: ConfidenceFeatures, prediction: Prediction) -> ConfidenceFeatures:
        """The features with a calibrated probability, if these weights have a calibration and the network gives
        uncertainty and tokens."""
        return calibrated_features(self.calibration, features, prediction)

    def facts(self) -> dict[str, Any]:
        """`model_facts` of these weights, or of a model without a file."""
        if self.path is not None:
            return model_facts(self.path)
        return {"software": __version__, "weights": self.origin.weights_hash, "head": self.origin.head_hash}

    def _passed(self, crops: Tensor, batch_size: int) -> tuple[FaceParameters, list[float | None], list[Tensor | None]]:
        """Parameters, expected errors and tokens of crops [B, 3, S, S]."""
        parts: list[FaceParameters] = []
        sigmas: list[float | None] = []
        tokens: list[Tensor | None] = []
        full = getattr(self.network, "forward_with_extras", None)
        with torch.inference_mode():
            for chunk in crops.split(batch_size):
                chunk = chunk.to(self.device)
                if full is None:
                    parts.append(self.network(chunk).to("cpu", torch.float32))
                    continue
                output = full(chunk)
                parts.append(output.parameters.to("cpu", torch.float32))
                tokens += [one.clone() for one in output.tokens.float().cpu()]
                if output.log_sigma is not None:
                    sigmas += output.log_sigma.float().exp().mean(-1).tolist()
        unknown = [None] * len(crops)
        return self._finished(FaceParameters.cat(parts)), sigmas or [*unknown], tokens or [*unknown]

    def _finished(self, parameters: FaceParameters) -> FaceParameters:
        if not all(torch.isfinite(value).all() for _, value in parameters.items()):
            raise CheckpointError(f"the weights '{self.origin.weights}' give numbers that are not finite; train again")
        return parameters.replace(expression=self.head.clamp_expression(parameters.expression))

    def _landmarks(
        self, parameters: FaceParameters, cameras: Sequence[FaceCamera], mesh468: bool
    ) -> tuple[list[np.ndarray], Sequence[np.ndarray | None]]:
        """[68, 2] and [468, 2] picture pixels of every face."""
        mesh468 = mesh468 and self.head.mesh468_faces is not None
        subset = self._all_points if mesh468 else self._points68
        with torch.inference_mode():
            vertices = subset.vertices(parameters)
        yaws = torch.tensor([camera.angles[0] for camera in cameras])
        faces68 = subset.landmarks68(vertices, yaws)
        points68 = [camera.project(face.numpy()) for camera, face in zip(cameras, faces68, strict=True)]
        if not mesh468:
            return points68, [None] * len(cameras)
        faces468, missing = subset.landmarks468(vertices), ~self.head.mesh468_valid.numpy()
        points468 = [camera.project(face.numpy()) for camera, face in zip(cameras, faces468, strict=True)]
        for points in points468:
            points[missing] = np.nan
        return points68, points468

    @cached_property
    def _points68(self) -> VertexSubset:
        return VertexSubset(self.head, mesh468=False)

    @cached_property
    def _all_points(self) -> VertexSubset:
        return VertexSubset(self.head)


def one_of(parameters: FaceParameters, index: int) -> FaceParameters:
    """One face's parameters in memory of their own: a view would keep the whole batch alive."""
    return FaceParameters(**{name: value[index].clone() for name, value in parameters.items()})
