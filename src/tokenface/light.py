"""Photos to heads without torch: onnxruntime (or OpenVINO) and NumPy.

The same detector, crops, graph, head model and files as `tokenface.load`, so the same faces; refinement, clips, hair
and training need torch. Photo textures and overlays need numba and SciPy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenface.deploy.graph_names import CROPS, OUTPUTS
from tokenface.deploy.templates import find_template, stored_tensors
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop, extract_array
from tokenface.geometry.pinhole import FaceCamera
from tokenface.graphs.sessions import installed_runtime, open_graph
from tokenface.graphs.templates import filled
from tokenface.head.arrays import HeadArrays
from tokenface.head.data import HeadData
from tokenface.head.registry import head_path
from tokenface.inference.calibration import calibrated_features, find_calibration
from tokenface.inference.checkpoint_facts import calibration_facts, check_head_name, crop_scale, read_metadata
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Origin
from tokenface.inference.photo_model import PhotoModel
from tokenface.inference.prediction import Prediction
from tokenface.network.config import NetworkConfig
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.weights import file_hash, find_weights, recognition_path


class LightModel(PhotoModel):
    """A network with its head model, ready for photos, without torch.

    Args:
        weights: name or path, as `tokenface.load`.
        threads: of the network; 0: all cores.
    Raises:
        CheckpointError: no such weights, damaged, or of an architecture without a shipped graph.
        ConfigError: neither onnxruntime nor OpenVINO is installed.
    """

    def __init__(self, weights: str | os.PathLike | None = None, threads: int = 0) -> None:
        runtime, path = installed_runtime(), find_weights(weights)
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
        self.calibration = find_calibration(path, self.origin.weights_hash, calibration_facts(path))
        template = find_template(config, self.head.sizes)
        if template is None:
            raise CheckpointError(f"'{path}' has an architecture whose graph is not shipped; use it with torch")
        graph = filled(template, stored_tensors(path, recognition_path()))
        self._network = open_graph(graph, (CROPS,), OUTPUTS, threads, runtime=runtime)

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
        return calibrated_features(self.calibration, features, prediction)


def load(weights: str | os.PathLike | None = None, threads: int = 0) -> LightModel:
    """`LightModel(weights, threads)`."""
    return LightModel(weights, threads)
