"""Photos to heads without torch: onnxruntime (or OpenVINO) and NumPy.

The same detector, crops, graph, head model and files as `tokenface.load`, so the same faces; what needs gradients or a
rasteriser (refinement, clips, photo textures, overlays, training) needs torch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tokenface.deploy.graph_names import CROPS, OUTPUTS, PACKAGES
from tokenface.deploy.sessions import open_graph
from tokenface.deploy.templates import filled, find_template, stored_tensors
from tokenface.errors import CheckpointError, ConfigError, ImageError
from tokenface.geometry.crop import Crop, extract_array
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arrays import HeadArrays
from tokenface.head.data import HeadData
from tokenface.head.registry import head_path
from tokenface.images.detection import Detection
from tokenface.images.detector import FaceDetector
from tokenface.images.loading import MAX_PIXELS
from tokenface.images.remote import collect_photos
from tokenface.inference.calibration import calibration_input, find_calibration
from tokenface.inference.checkpoint_facts import check_head_name, crop_scale, read_metadata
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.doubles import without_doubles
from tokenface.inference.face import Face, Origin
from tokenface.inference.photos import groups, prepared
from tokenface.inference.prediction import Prediction
from tokenface.inference.reader import read_faces
from tokenface.network.config import NetworkConfig
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.weights import file_hash, find_weights, recognition_path

BATCH_SIZE = 16


class LightModel:
    """A network with its head model, ready for photos, without torch.

    Args:
        weights: name or path, as `tokenface.load`.
        threads: of the network; 0: all cores.
    Raises:
        CheckpointError: no such weights, damaged, or of an architecture without a shipped graph.
        ConfigError: neither onnxruntime nor OpenVINO is installed.
    """

    def __init__(self, weights: str | os.PathLike | None = None, threads: int = 0) -> None:
        runtime, path = _runtime(), find_weights(weights)
        facts = read_metadata(path)
        try:
            config = NetworkConfig.from_dict(facts["network"])
            name, expected = str(facts["head"]["name"]), str(facts["head"]["geometry_hash"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"'{path}' describes a network that this version cannot use ({error})") from error
        check_head_name(path, name)
        data = HeadData.load(head_path(name))
        if data.geometry_hash() != expected:
            raise CheckpointError(f"'{path}' was trained on another head model than the installed '{data.name}'")
        self.head: Any = HeadArrays(data)
        self.crop_size, self.crop_scale = config.image_size, crop_scale(path, facts)
        self.origin = Origin(path.stem, file_hash(path), expected)
        self.calibration = find_calibration(path, self.origin.weights_hash)
        template = find_template(config, self.head.sizes)
        if template is None:
            raise CheckpointError(f"'{path}' has an architecture whose graph is not shipped; use it with torch")
        graph = filled(template, stored_tensors(path, recognition_path()))
        self._network = open_graph(graph, (CROPS,), OUTPUTS, threads, runtime=runtime)

    @cached_property
    def detector(self) -> FaceDetector:
        """The face detector, made on first use.

        Raises:
            ModelFileError: its models are missing and cannot be fetched.
        """
        return FaceDetector()

    def reconstruct(
        self,
        source: Any,
        landmarks: Sequence[np.ndarray] | np.ndarray | None = None,
        *,
        max_faces: int | None = None,
        recursive: bool = False,
        second_crop: bool = True,
    ) -> list[Face]:
        """Every face of one or many photos, as `Reconstructor.reconstruct`: in the order of the photos, largest first.

        Args:
            source: path, address, folder, open file, array [H, W, 3], PIL image, encoded bytes, or a list of these.
            landmarks: [N, 68, 2] iBUG points of the faces of one photo, pixels; None: find them.
            max_faces: the largest ones of a photo; None: all.
            recursive: folders with everything below them.
            second_crop: crop again from the network's own landmarks.
        Returns:
            `Face` objects. Their skin and irises are the predicted albedo's.
        Raises:
            ImageError: nothing to read, or a photo that cannot be read.
            ModelFileError: the face detector's models are missing and cannot be fetched.
        """
        items = collect_photos(source, recursive=recursive)
        known = None if landmarks is None else np.asarray(landmarks, np.float64).reshape(-1, 68, 2)
        if known is not None and len(items) != 1:
            raise ImageError(f"landmarks are of one photo, got {len(items)}")
        if known is None:
            _ = self.detector  # what cannot be had is said before the first photo

        def find(number: int, image: np.ndarray) -> list[Detection]:
            return self.detector.detect(image) if known is None else [Detection.from_landmarks(one) for one in known]

        faces: list[Face] = []
        for group in groups(prepared(items, find, MAX_PIXELS), BATCH_SIZE):
            for photo in group:
                if photo.error is not None:
                    raise photo.error
                found = read_faces(self, [photo], BATCH_SIZE, second_crop)
                faces += (without_doubles(found) if known is None else found)[:max_faces]
        return faces

    def predictions(self, images: Sequence[np.ndarray], crops: Sequence[Crop], batch_size: int) -> list[Prediction]:
        """As `Predictor.predictions`, in arrays."""
        pixels = [extract_array(image, [crop], self.crop_size) for image, crop in zip(images, crops, strict=True)]
        found: list[Prediction] = []
        for start in range(0, len(pixels), batch_size):
            part = np.concatenate(pixels[start : start + batch_size])
            answer = self._network({CROPS: part})
            for row in range(len(part)):
                place = start + row
                values = {name: one[row] for name, one in answer.items()}
                found.append(self._prediction(values, images[place], crops[place], part[row]))
        return found

    def _prediction(
        self, values: dict[str, np.ndarray], image: np.ndarray, crop: Crop, pixels: np.ndarray
    ) -> Prediction:
        if not all(np.isfinite(values[name]).all() for name in COMPONENTS):
            raise CheckpointError(f"the weights '{self.origin.weights}' give numbers that are not finite; train again")
        components: dict[str, Any] = {name: values[name].copy() for name in COMPONENTS}
        components["expression"] = self.head.clamp_expression(components["expression"])
        parameters = FaceParameters(**components)
        camera = FaceCamera(components["camera"].astype(np.float64), crop, image.shape[:2])
        vertices = self.head.posed(parameters)
        points468 = self.head.points468(vertices)
        return Prediction(
            parameters=parameters,
            camera=camera,
            landmarks68=camera.project(self.head.points68(vertices, camera.angles[0])),
            landmarks468=None if points468 is None else camera.project(points468),
            sigma=float(np.exp(values["log_sigma"]).mean()),
            tokens=values["tokens"],  # type: ignore[arg-type]  # arrays, all of them
            pixels=pixels,  # type: ignore[arg-type]
        )

    def calibrated(self, features: ConfidenceFeatures, prediction: Prediction) -> ConfidenceFeatures:
        """As `Predictor.calibrated`."""
        p = prediction
        if self.calibration is None or p.sigma is None or p.tokens is None:
            return features
        inputs = calibration_input(features, p.parameters, p.camera, p.sigma, p.tokens)
        return self.calibration.calibrated(features, inputs)


def load(weights: str | os.PathLike | None = None, threads: int = 0) -> LightModel:
    """`LightModel(weights, threads)`."""
    return LightModel(weights, threads)


def _runtime() -> str:
    for runtime, package in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            return runtime
    raise ConfigError("without torch the network needs onnxruntime or openvino; run pip install onnxruntime")
