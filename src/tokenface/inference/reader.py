"""Faces that have been found, read: crop, run the network, crop again from its own landmarks, correct, judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.core.device import choose_device
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import TEST_SCALE, Crop, extract
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.model import HeadModel
from tokenface.hub import HubModel
from tokenface.images.detection import Detection
from tokenface.inference.answer import Answer, Outputs, recropped
from tokenface.inference.calibration import Calibration
from tokenface.inference.confidence import Evidence, weigh
from tokenface.inference.face import Face, Origin
from tokenface.inference.photos import BATCH_SIZE, Photo
from tokenface.inference.signs import signs_of
from tokenface.parameters import FaceParameters


class FaceReader(HubModel):
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

    def predict(self, crops: Tensor, batch_size: int = BATCH_SIZE) -> FaceParameters:
        """Crops [B, 3, S, S] to parameters on the CPU, float32; expression weights in the head model's range.

        Raises:
            CheckpointError: the network gives numbers that are not finite.
        """
        return self._outputs(crops, batch_size).parameters

    def judged(
        self,
        evidence: Evidence,
        parameters: FaceParameters,
        camera: FaceCamera,
        sigma: float | None,
        tokens: Tensor | None,
    ) -> Evidence:
        """The evidence with a calibrated probability, if these weights have a calibration.

        Args:
            parameters: every tensor [size].  sigma: mean expected error of the landmarks in crop half-widths.
            tokens: [T, D]; None for both where the network does not say.
        """
        if self.calibration is None or sigma is None or tokens is None:
            return evidence
        return self.calibration.judge(evidence, signs_of(evidence, parameters, camera, sigma, tokens))

    def _outputs(self, crops: Tensor, batch_size: int) -> Outputs:
        parts, sigmas, tokens = [], [], []
        full = getattr(self.network, "forward_with_extras", None)
        with torch.inference_mode():
            for chunk in crops.split(batch_size):
                chunk = chunk.to(self.device)
                if full is None:
                    parts.append(self.network(chunk).to("cpu", torch.float32))
                    continue
                output = full(chunk)
                parts.append(output.parameters.to("cpu", torch.float32))
                tokens += output.tokens.float().cpu().unbind()
                if output.log_sigma is not None:
                    sigmas += output.log_sigma.float().exp().mean(-1).tolist()
        parameters = FaceParameters.cat(parts)
        if not all(torch.isfinite(value).all() for _, value in parameters.items()):
            raise CheckpointError(f"the weights '{self.origin.weights}' give numbers that are not finite; train again")
        unknown = [None] * len(crops)
        return Outputs(
            parameters.replace(expression=self.head.clamp_expression(parameters.expression)),
            sigmas or unknown,
            tokens or unknown,
        )

    def read(self, photos: list[Photo], batch_size: int, second_crop: bool) -> list[Face]:
        """All faces that were found in some photos, in their order; `second_crop` looks again from where the first look
        saw the landmarks."""
        seen = [(photo, index, face) for photo in photos for index, face in enumerate(photo.detections)]
        if not seen:
            return []
        first_crops = [face.crop(self.crop_scale) for _, _, face in seen]
        first = self._answers(seen, first_crops, batch_size)
        final = first
        if second_crop:
            crops = [
                recropped(crop, answer, face, self.crop_scale)
                for crop, answer, (_, _, face) in zip(first_crops, first, seen, strict=True)
            ]
            final = self._answers(seen, crops, batch_size)
        return [
            Face(
                parameters=answer.parameters,
                camera=answer.camera,
                box=np.asarray(detection.box, np.float64),
                evidence=self._evidence(detection, before, answer),
                head=self.head,
                item=photo.item,
                origin=self.origin,
                index=index,
                observed468=detection.landmarks468,
            )
            for before, answer, (photo, index, detection) in zip(first, final, seen, strict=True)
        ]

    def _evidence(self, detection: Detection, before: Answer, answer: Answer) -> Evidence:
        evidence = weigh(
            detection,
            answer.landmarks68,
            answer.landmarks468,
            before.landmarks68,
            answer.parameters.shape.numpy(),
            answer.camera,
        )
        return self.judged(evidence, answer.parameters, answer.camera, answer.sigma, answer.tokens)

    def _answers(
        self, seen: Sequence[tuple[Photo, int, Detection]], crops: list[Crop], batch_size: int
    ) -> list[Answer]:
        outputs = self._outputs(self._pixels(seen, crops), batch_size)
        parameters = outputs.parameters
        with torch.inference_mode():
            mesh = self.head(parameters.shape, parameters.expression, parameters.jaw)
        answers = []
        for index, ((photo, _, _), crop) in enumerate(zip(seen, crops, strict=True)):
            assert photo.image is not None
            own = parameters.row(index)
            camera = FaceCamera(own.camera.double().numpy(), crop, photo.image.shape[:2])
            points = self._landmarks(mesh.vertices[index : index + 1], camera)
            answers.append(Answer(own, camera, *points, outputs.sigmas[index], outputs.tokens[index]))
        return answers

    def _pixels(self, seen: Sequence[tuple[Photo, int, Detection]], crops: list[Crop]) -> Tensor:
        pixels = []
        for (photo, _, _), crop in zip(seen, crops, strict=True):
            assert photo.image is not None  # a photo with detections has been read
            pixels.append(extract(photo.image, [crop], self.crop_size))
        return torch.cat(pixels)

    def _landmarks(self, vertices: Tensor, camera: FaceCamera) -> tuple[np.ndarray, np.ndarray | None]:
        points68 = self.head.landmarks68(vertices, torch.tensor([camera.angles[0]]))[0].numpy()
        if self.head.mesh468_faces is None:
            return camera.project(points68), None
        points468 = camera.project(self.head.landmarks468(vertices)[0].numpy())
        points468[~self.head.mesh468_valid.numpy()] = np.nan
        return camera.project(points68), points468
