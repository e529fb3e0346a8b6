"""Façade of the package: reconstruction, refinement and tracking with one loaded model."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import nn

from tokenface.core.device import choose_device
from tokenface.errors import TokenFaceError
from tokenface.geometry.crop import TEST_SCALE
from tokenface.head.model import HeadModel
from tokenface.hub import HubModel
from tokenface.images.detector import FaceDetector
from tokenface.inference.face import Face, Origin
from tokenface.inference.photo_model import PhotoModel, accepted
from tokenface.inference.photos import BATCH_SIZE, unexpected
from tokenface.inference.predictor import Predictor
from tokenface.inference.refinement import RefineOptions
from tokenface.inference.result import PhotoResult
from tokenface.network.tokenface import TokenFace

if TYPE_CHECKING:
    from tokenface.refinement.refine import Refiner
    from tokenface.video.face import TrackedFrame


class Reconstructor(HubModel, Predictor, PhotoModel):
    """A network with its head model, ready for photos and clips. Made by `tokenface.load()`.

    Args:
        network, head, crop_size, origin, device, crop_scale: see `Predictor`.
        detector: finds faces; None makes a `FaceDetector` when it is first needed (its models are fetched then).
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
        super().__init__(network, head, crop_size, origin, device, crop_scale)
        self._detector = detector

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike | None = None,
        device: str | torch.device = "auto",
        runtime: str = "auto",
        precision: str = "fp32",
    ) -> Self:
        """Weights by name or path; see `tokenface.load`."""
        if (runtime, precision) == ("torch", "fp32"):
            return super().load(name_or_path, device)
        where = choose_device(device) if runtime in ("auto", "torch") else torch.device("cpu")

        def running(network: TokenFace, head: HeadModel, origin: Origin) -> nn.Module:
            from tokenface.deploy.cached import other_network
            from tokenface.deploy.choice import fastest_network

            if runtime == "auto":
                found = fastest_network(network, head, origin.weights_hash, precision, where)
                if found is not None:
                    return found
                if precision == "fp32":
                    return network
            chosen = "torch" if runtime == "auto" else runtime
            return other_network(network, head, origin.weights_hash, chosen, precision)

        return cls._loaded(name_or_path, where, running)

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
            source: path, address (https://…, s3://…), folder, open file, array [H, W, 3], PIL image, encoded bytes,
                tensor [3, H, W] or batch [B, 3, H, W], or a list of these.
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
        results = self.iterate(
            source,
            boxes,
            landmarks,
            batch_size=batch_size,
            max_faces=1 if same_person else max_faces,
            recursive=recursive,
            second_crop=second_crop,
            refine=False if same_person else refine,
        )
        faces: list[Face] = []
        photos: list[np.ndarray] = []
        for result in accepted(results, on_error):
            faces.extend(result.faces)
            if same_person and refine and result.image is not None:
                photos.extend([result.image] * len(result.faces))
        return self.one_person(faces, photos, refine) if same_person and faces else faces

    def one_person(
        self, faces: Sequence[Face], photos: Sequence[np.ndarray] = (), refine: bool | RefineOptions | None = None
    ) -> list[Face]:
        """Faces of one person with one identity: pooled by confidence, or refined together.

        Args:
            photos: [H, W, 3] uint8 for each face; needed where `refine` is asked for.
        """
        return self.refiner(list(faces), list(photos), _refine_options(refine)) if refine else super().one_person(faces)

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
        temporal_weights: str | os.PathLike | None = None,
        smooth: Literal["none", "one-euro"] = "none",
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
    ) -> Iterator[TrackedFrame]:
        """The faces of a clip, frame by frame: `tokenface.video.track.track` has the arguments."""
        from tokenface.video.track import track

        return track(
            self,
            self.detector,
            source,
            people=people,
            temporal=temporal,
            temporal_weights=None if temporal_weights is None else os.fspath(temporal_weights),
            smooth=smooth,
            start=start,
            end=end,
            fps=fps,
        )

    def iterate(
        self,
        source: Any,
        boxes: Any = None,
        landmarks: Any = None,
        *,
        refine: bool | RefineOptions = False,
        **wanted: Any,
    ) -> Generator[PhotoResult]:
        """`PhotoModel.iterate`, which has the other arguments; refine: fit every face to its photo."""
        options = _refine_options(refine)
        if options is not None:
            _ = self.refiner  # a head model that cannot be refined is an error of the whole run
        results = super().iterate(source, boxes, landmarks, **wanted)
        return results if options is None else self._refined(results, options)

    def _refined(self, results: Generator[PhotoResult], options: RefineOptions) -> Generator[PhotoResult]:
        with closing(results):
            for result in results:
                yield self._fitted(result, options)

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


def _refine_options(refine: bool | RefineOptions) -> RefineOptions | None:
    if isinstance(refine, bool):
        return RefineOptions() if refine else None
    return refine
