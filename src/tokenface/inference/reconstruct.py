"""Photos to faces: find, crop, run the network, crop again from its own landmarks, judge."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tokenface.camera_opencv import FaceCamera
from tokenface.errors import CheckpointError, ImageError, ModelFileError, TokenFaceError
from tokenface.head.model import HeadModel
from tokenface.hub import HubModel
from tokenface.images.crop import TEST_SCALE, Crop, extract
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.images.loading import MAX_PIXELS, collect_images
from tokenface.inference.answer import Answer, Outputs, recropped
from tokenface.inference.calibration import Calibration, find_calibration
from tokenface.inference.confidence import Evidence, weigh
from tokenface.inference.device import choose_device
from tokenface.inference.face import Face, Origin
from tokenface.inference.photos import BATCH_SIZE, Photo, groups, per_photo, prepared, unexpected
from tokenface.inference.pooling import same_person as one_identity
from tokenface.inference.result import NoFaceError, PhotoResult
from tokenface.inference.signs import signs_of
from tokenface.likeness.correction import Likeness, find_likeness
from tokenface.network.components import FaceParameters
from tokenface.refinement.record import RefineOptions
from tokenface.weights import file_hash, find_weights

if TYPE_CHECKING:
    from tokenface.refinement.refine import Refiner
    from tokenface.video.face import TrackedFrame

logger = logging.getLogger("tokenface")


class Reconstructor(HubModel):
    """A network with its head model, ready for photos. Made by `tokenface.load()`.

    Args:
        network: maps crops [B, 3, S, S], RGB in [0, 1], to FaceParameters.
        head: the head model it was trained for.
        crop_size: S, pixels.
        origin: name and hash of the weights.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        detector: finds faces; None makes a `FaceDetector` when it is first needed (its models are fetched then).
        crop_scale: enlargement of the landmarks' box to the crop, as in training.
    """

    def __init__(
        self,
        network: nn.Module,
        head: HeadModel,
        crop_size: int,
        origin: Origin,
        device: str | torch.device = "auto",
        detector: FaceDetector | None = None,
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
        self.likeness: Likeness | None = None  # corrects shapes; None: as the network says
        self._detector = detector

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike | None = None,
        device: str | torch.device = "auto",
        runtime: str = "torch",
        precision: str = "fp32",
    ) -> Reconstructor:
        """Weights by name or path; see `tokenface.load`."""
        from tokenface.network.checkpoint import load_checkpoint

        path = find_weights(name_or_path)
        network, head, facts = load_checkpoint(path)
        origin = Origin(path.stem, file_hash(path), head.data.geometry_hash())
        scale = facts.get("crop", TEST_SCALE)
        if not isinstance(scale, int | float) or not 0.5 < scale < 4:
            raise CheckpointError(f"'{path}' has an impossible crop scale {scale!r}; expected about {TEST_SCALE}")
        runner: nn.Module = network
        if (runtime, precision) != ("torch", "fp32"):
            from tokenface.deploy.cached import other_network

            runner = other_network(network, head, origin.weights_hash, runtime, precision)
            device = device if runtime == "torch" else "cpu"
        model = cls(runner, head, network.config.image_size, origin, device, crop_scale=float(scale))
        model.path = path
        model.calibration = find_calibration(path, origin.weights_hash)
        model.likeness = find_likeness(path, origin.weights_hash, head)
        return model

    @property
    def detector(self) -> FaceDetector:
        """The face detector, made on first use.

        Raises:
            ModelFileError: its models are missing and cannot be fetched.
        """
        if self._detector is None:
            self._detector = FaceDetector()
        return self._detector

    def reconstruct(
        self,
        source: Any,
        boxes: Any = None,
        landmarks: Any = None,
        *,
        batch_size: int = BATCH_SIZE,
        max_faces: int | None = None,
        recursive: bool = False,
        second_crop: bool = True,
        refine: bool | RefineOptions = False,
        on_error: Literal["raise", "skip"] = "raise",
        same_person: bool = False,
    ) -> list[Face]:
        """Every face of one or many photos; photos without a face add nothing.

        Args:
            source: path, folder, array [H, W, 3], PIL image, encoded bytes, tensor [3, H, W] or batch [B, 3, H, W],
                or a list of these.
            boxes: faces that are known, [N, 4] x0, y0, x1, y1 in photo pixels; for several photos a list with one
                entry per photo, or a mapping from photo name to boxes. None: find them.
            landmarks: [N, 68, 2] iBUG points in photo pixels instead, in the same forms.
            batch_size: faces per network batch.
            max_faces: the largest ones of a photo; None: all.
            recursive: folders with everything below them.
            second_crop: crop again from the network's own landmarks.
            refine: fit every face to its photo (`docs/refinement.md`); with `same_person` all photos together.
            on_error: "raise" stops at a photo that cannot be read; "skip" logs a warning and goes on.
            same_person: all photos show one person, the largest face of each: they get one identity, the mean of
                their shapes and albedos weighted by confidence.
        Returns:
            Faces in the order of the photos, largest first within a photo.
        Raises:
            ImageError: nothing to read, or a photo that cannot be read (on_error="raise").
            ModelFileError: the face detector's models are missing and cannot be fetched.
        """
        max_faces = 1 if same_person else max_faces
        results = self.iterate(
            source,
            boxes,
            landmarks,
            batch_size=batch_size,
            max_faces=max_faces,
            recursive=recursive,
            second_crop=second_crop,
            refine=False if same_person else refine,
        )
        faces: list[Face] = []
        photos: list[np.ndarray] = []
        for result in results:
            if result.status == "failed" and result.error is not None:
                if on_error == "raise":
                    raise result.error
                logger.warning("%s", result.error)
            faces.extend(result.faces)
            if same_person and refine and result.image is not None:
                photos.extend([result.image] * len(result.faces))
        if not (same_person and faces):
            return faces
        return self.refiner(faces, photos, _refine_options(refine)) if refine else one_identity(faces)

    def refine(
        self,
        faces: Face | Sequence[Face],
        options: RefineOptions | None = None,
        *,
        photos: Sequence[np.ndarray] | None = None,
        points: Sequence[np.ndarray | None] | None = None,
        same_person: bool = False,
    ) -> list[Face]:
        """Faces fitted to their photos: `docs/refinement.md`.

        Args:
            faces: of this model, in any photos.
            photos: [H, W, 3] uint8 for each face; None: loaded again from where they came.
            points: [468, 2] face-mesh points in photo pixels for each face, NaN where unknown, for example placed by
                hand; with `RefineOptions.point_deviation` the shape follows them too. None: as the face mesh saw them.
            same_person: they all show one person, who gets one shape and one albedo.
        Raises:
            ImageError: a photo is gone.  HeadModelError: the head model lacks the face mesh's correspondence.
        """
        faces = [faces] if isinstance(faces, Face) else list(faces)
        photos = [face.item.load() for face in faces] if photos is None else list(photos)
        if points is None and options is not None and "mesh" in (options.points, options.size.replace("iris", "mesh")):
            faces = [self._observed(face, photo) for face, photo in zip(faces, photos, strict=True)]
        if same_person:
            return self.refiner(faces, photos, options, points)
        known = [None] * len(faces) if points is None else list(points)
        return [
            self.refiner([face], [photo], options, None if own is None else [own])[0]
            for face, photo, own in zip(faces, photos, known, strict=True)
        ]

    @cached_property
    def refiner(self) -> Refiner:
        """Prepared when it is first needed."""
        from tokenface.refinement.refine import Refiner

        return Refiner(self)

    def track(
        self,
        source: Any,
        *,
        people: int | Literal["all"] = 1,
        temporal: Literal["auto", "off", "causal", "centred"] = "auto",
        smooth: Literal["none", "one-euro"] = "none",
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
    ) -> Iterator[TrackedFrame]:
        """The faces of a clip, frame by frame: `tokenface.video.track.track` has the arguments."""
        from tokenface.video.track import track

        return track(
            self, source, people=people, temporal=temporal, smooth=smooth, start=start, end=end, fps=fps
        )  # fmt: skip

    def iterate(
        self,
        source: Any,
        boxes: Any = None,
        landmarks: Any = None,
        *,
        batch_size: int = BATCH_SIZE,
        max_faces: int | None = None,
        recursive: bool = False,
        second_crop: bool = True,
        refine: bool | RefineOptions = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[PhotoResult]:
        """`reconstruct`, photo by photo, in order: faces or an error for each. Decoding and finding faces run in a
        thread beside the network; a photo that fails does not stop the others."""
        items = collect_images(source, recursive=recursive)
        known_boxes, known_landmarks = per_photo(boxes, items, "boxes"), per_photo(landmarks, items, "landmarks")
        if batch_size < 1:
            raise ImageError(f"batch_size is at least 1, got {batch_size}")
        if any(a is None and b is None for a, b in zip(known_boxes, known_landmarks, strict=True)):
            _ = self.detector  # models that cannot be had concern all photos: fail once, and before the first

        def find(number: int, image: np.ndarray) -> list[Detection]:
            found = self._find(image, known_boxes[number], known_landmarks[number])
            return found[:max_faces]

        options = _refine_options(refine)
        if options is not None:
            _ = self.refiner  # a head model that cannot be refined is an error of the whole run
        return self._run(prepared(items, find, max_pixels), batch_size, second_crop, options)

    def predict(self, crops: Tensor, batch_size: int = BATCH_SIZE) -> FaceParameters:
        """Crops [B, 3, S, S] to parameters on the CPU, float32; expression weights in the head model's range, shapes
        corrected where the weights have a likeness.

        Raises:
            CheckpointError: the network gives numbers that are not finite.
        """
        return self._likened(crops, self._outputs(crops, batch_size).parameters, batch_size)

    def _likened(self, crops: Tensor, answers: FaceParameters, batch_size: int) -> FaceParameters:
        if self.likeness is None:
            return answers
        starts = range(0, len(crops), batch_size)
        parts = [(crops[i : i + batch_size].cpu(), answers[i : i + batch_size]) for i in starts]
        return FaceParameters.cat([self.likeness(*part) for part in parts])

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

    def _find(self, image: np.ndarray, boxes: Any, landmarks: Any) -> list[Detection]:
        if landmarks is not None:
            try:
                points = np.asarray(landmarks, dtype=np.float64)
                return [Detection.from_landmarks(face) for face in (points[None] if points.ndim == 2 else points)]
            except ValueError as error:
                raise ImageError(f"landmarks are [N, 68, 2] photo pixels ({error})") from error
        if boxes is None:
            return self.detector.detect(image)
        try:
            corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        except (ValueError, TypeError) as error:
            raise ImageError(f"boxes are [N, 4] x0, y0, x1, y1 in photo pixels ({error})") from error
        try:
            return self.detector.align(image, corners)
        except ModelFileError:  # the mesh would only improve the crops
            return [Detection(box=box, score=1.0) for box in corners]

    def _run(
        self, photos: Iterator[Photo], batch_size: int, second_crop: bool, refine: RefineOptions | None
    ) -> Iterator[PhotoResult]:
        try:
            for group in groups(photos, batch_size):
                for result in self._group(group, batch_size, second_crop):
                    yield result if refine is None else self._fitted(result, refine)
        finally:
            if hasattr(photos, "close"):
                photos.close()

    def _fitted(self, result: PhotoResult, options: RefineOptions) -> PhotoResult:
        """The photo's faces refined, each by itself."""
        if result.image is None or result.error is not None:
            return result
        try:
            faces = [self.refiner([face], [result.image], options)[0] for face in result.faces]
        except TokenFaceError as error:
            return PhotoResult(result.item, image=result.image, error=error)
        except Exception as error:
            return PhotoResult(result.item, image=result.image, error=unexpected(result.item, error))
        return PhotoResult(result.item, faces, result.image)

    def _observed(self, face: Face, photo: np.ndarray) -> Face:
        """The face with the face mesh's points, looked for where it is when it came without."""
        if face.observed468 is not None:
            return face
        found = self.detector.align(photo, face.box[None])[0]
        return replace(face, observed468=found.landmarks468)

    def _group(self, photos: list[Photo], batch_size: int, second_crop: bool) -> Iterable[PhotoResult]:
        """Both passes over the faces of a few photos."""
        try:
            faces = iter(self._faces(photos, batch_size, second_crop))
        except TokenFaceError:
            raise
        except Exception as error:
            if len(photos) > 1:  # find the one that is to blame, and save the others
                return [result for photo in photos for result in self._group([photo], batch_size, second_crop)]
            return [PhotoResult(photos[0].item, image=photos[0].image, error=unexpected(photos[0].item, error))]
        results = []
        for photo in photos:
            result = PhotoResult(photo.item, [next(faces) for _ in photo.detections], photo.image, photo.error)
            if not result.faces and result.error is None:
                result.error = NoFaceError(
                    f"no face found in '{photo.item.name}'; give a box (--boxes, boxes=) if there is one"
                )
            results.append(result)
        return results

    def _faces(self, photos: list[Photo], batch_size: int, second_crop: bool) -> list[Face]:
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
        likened = self._corrected(seen, final, batch_size)
        return [
            Face(
                parameters=parameters,
                camera=camera,
                box=np.asarray(detection.box, np.float64),
                evidence=self._evidence(detection, before, answer),
                head=self.head,
                item=photo.item,
                origin=self.origin,
                index=index,
                observed468=detection.landmarks468,
            )
            for before, answer, (parameters, camera), (photo, index, detection) in zip(
                first, final, likened, seen, strict=True
            )
        ]

    def _corrected(
        self, seen: Sequence[tuple[Photo, int, Detection]], answers: list[Answer], batch_size: int
    ) -> list[tuple[FaceParameters, FaceCamera]]:
        """Parameters and camera of every face after the likeness; what is known of errors is known of the answers."""
        if self.likeness is None:
            return [(answer.parameters, answer.camera) for answer in answers]
        crops = self._pixels(seen, [answer.camera.crop for answer in answers])
        rows = FaceParameters.stack([answer.parameters for answer in answers])
        better = self._likened(crops, rows, batch_size)
        own = [better.row(index) for index in range(len(answers))]
        return [
            (p, replace(answer.camera, vector=p.camera.double().numpy()))
            for p, answer in zip(own, answers, strict=True)
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


def _refine_options(refine: bool | RefineOptions) -> RefineOptions | None:
    if isinstance(refine, bool):
        return RefineOptions() if refine else None
    return refine
