"""One pass of the image model over the crops of one frame: tokens, parameters, landmarks, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop, extract
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.subset import VertexSubset
from tokenface.model import Reconstructor
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters


@dataclass(frozen=True, eq=False)
class Look:
    """What one pass says of one crop.

    tokens: [T, D] component tokens; None where the network has none.  parameters: every tensor [size].
    camera: of the face in the frame.  landmarks68: [68, 2] frame pixels.  roll: of the camera's angles, radians.
    sigma: mean expected error of the landmarks in crop half-widths; None where the network does not say.
    colours: [N] colour histogram of the crop, sums to 1.
    """

    tokens: Tensor | None
    parameters: FaceParameters
    camera: FaceCamera
    landmarks68: np.ndarray
    roll: float
    sigma: float | None
    colours: np.ndarray

    @property
    def crop(self) -> Crop:
        return self.camera.crop


class FrameNetwork:
    """The image model as the tracker needs it: tokens and heads apart, landmarks from few vertices."""

    def __init__(self, model: Reconstructor) -> None:
        self.model, self.head = model, model.head
        self.network = model.network
        self.has_tokens = isinstance(self.network, TokenFace)
        self._subset = VertexSubset(self.head, mesh468=False)

    @torch.inference_mode()
    def look(self, image: np.ndarray, crops: Sequence[Crop]) -> list[Look]:
        """One pass over crops of one frame [H, W, 3]."""
        if not crops:
            return []
        pixels = extract(image, crops, self.model.crop_size)
        inputs = pixels.to(self.model.device)
        tokens: Tensor | None = None
        sigmas: list[float | None] = [None] * len(crops)
        if isinstance(self.network, TokenFace):
            output = self.network.forward_with_extras(inputs)
            tokens, parameters = output.tokens.float().cpu(), output.parameters
            if output.log_sigma is not None:
                sigmas = output.log_sigma.float().exp().mean(-1).tolist()
        else:
            parameters = self.network(inputs)
        parameters = self.finished(parameters)
        vectors = parameters.camera.double().numpy()
        cameras = [FaceCamera(vector, crop, image.shape[:2]) for vector, crop in zip(vectors, crops, strict=True)]
        angles = [camera.angles for camera in cameras]
        points = self._landmarks(parameters, cameras, [yaw for yaw, _, _ in angles])
        return [
            Look(
                tokens=None if tokens is None else tokens[i].clone(),
                parameters=one_of(parameters, i),
                camera=cameras[i],
                landmarks68=points[i],
                roll=angles[i][2],
                sigma=sigmas[i],
                colours=colour_histogram(pixels[i].numpy()),
            )
            for i in range(len(crops))
        ]

    @torch.inference_mode()
    def decoded(self, tokens: Tensor) -> list[FaceParameters]:
        """Component tokens [B, T, D] → parameters of each, as `look` gives them."""
        assert isinstance(self.network, TokenFace)
        parameters = self.finished(self.network.heads(tokens.to(self.model.device))[0])
        return [one_of(parameters, index) for index in range(len(tokens))]

    def finished(self, parameters: FaceParameters) -> FaceParameters:
        """On the CPU, float32, expressions in the head model's range.

        Raises:
            CheckpointError: not finite.
        """
        parameters = parameters.to("cpu", torch.float32)
        if not all(torch.isfinite(value).all() for _, value in parameters.items()):
            raise CheckpointError(
                f"the weights '{self.model.origin.weights}' give numbers that are not finite; train again"
            )
        return parameters.replace(expression=self.head.clamp_expression(parameters.expression))

    def _landmarks(
        self, parameters: FaceParameters, cameras: Sequence[FaceCamera], yaws: list[float]
    ) -> list[np.ndarray]:
        """[68, 2] frame pixels of every face."""
        points = self._subset.landmarks68(self._subset.vertices(parameters), torch.tensor(yaws))
        return [camera.project(face.numpy()) for camera, face in zip(cameras, points, strict=True)]


def one_of(parameters: FaceParameters, index: int) -> FaceParameters:
    """One face's parameters in memory of their own: a view would keep the whole batch alive."""
    return FaceParameters(**{name: value[index].clone() for name, value in parameters.items()})


def colour_histogram(pixels: np.ndarray, bins: int = 6) -> np.ndarray:
    """[3, S, S] in [0, 1] → [bins³] shares of the crop's pixels: what tells people of one clip apart."""
    thin = pixels[:, 2::4, 2::4].reshape(3, -1)
    places = np.minimum((thin * bins).astype(np.int64), bins - 1)
    histogram = np.bincount((places[0] * bins + places[1]) * bins + places[2], minlength=bins**3)
    return (histogram / max(histogram.sum(), 1)).astype(np.float32)


def certainty(look: Look) -> float:
    """The larger, the surer the network is of where the face is; 0 where it does not say."""
    return -look.sigma if look.sigma is not None else 0.0
