"""Confidence calibration of a network: linear stages and a monotone curve, fitted by `tokenface calibrate`."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from tokenface.core.files import write_atomically
from tokenface.core.fingerprint import Facts
from tokenface.core.tensors import open_tensors
from tokenface.errors import CheckpointError
from tokenface.geometry.pinhole import FaceCamera
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.prediction import Prediction
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.weights import companion

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "tokenface-confidence-1"
FEATURES = (
    "sigma", "sigma²", "apart", "apart known", "apart²", "moved", "moved known", "moved²", "undetected", "absence",
    "few pixels", "outside", "yaw", "yaw²", "pitch", "shape", "texture", "expression", "jaw", "off centre", "size",
)  # fmt: skip
FARTHEST = 3.0
"""Clip of distances, in units of `confidence.AGREEMENT_SCALE`."""
GRID = 9
TARGETS = ("probability", *COMPONENTS)
"""Columns of the scores."""
CLIP = 4.0
"""Standard deviations at which inputs are clipped: no extrapolation far outside of the training samples."""

logger = logging.getLogger("tokenface")


@dataclass(frozen=True, eq=False)
class CalibrationInput:
    """features: [len(FEATURES)].  tokens: [T·D] the network's component tokens."""

    features: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True, eq=False)
class Calibration:
    """Two linear stages and a monotone curve. F features, K numbers of the tokens, 1 + 6 targets.

    token_mean, token_scale [K]; probe [K, 7], probe_bias [7]: linear probe of the tokens for every target.
    mean, scale [F + 1]; weights [F + 1, 7], bias [7]: the features and the target's own probe, to its score.
    Scores are log odds for the probability, which runs through the curve [C] → [C] to become one, and logarithms of
    the expected error for the components.
    weights_hash: `file_hash` of the weights that it belongs to.  facts: how it was fitted and how well it does.
    """

    weights_hash: str
    token_mean: np.ndarray
    token_scale: np.ndarray
    probe: np.ndarray
    probe_bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    curve_score: np.ndarray
    curve_probability: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def calibrated(self, features: ConfidenceFeatures, inputs: CalibrationInput) -> ConfidenceFeatures:
        """The features with calibrated probability and expected errors."""
        if len(inputs.tokens) != len(self.token_mean):
            return features
        scores = self.scores(inputs.features[None], inputs.tokens[None])[0]
        probability = float(self.probability(scores[None])[0])
        expected = {
            f"expected_{name}": float(np.exp(score)) for name, score in zip(COMPONENTS, scores[1:], strict=True)
        }
        return replace(features, probability=probability, **expected)

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """[N, 7] scores → [N] probability that the prediction is right."""
        return np.interp(scores[:, 0], self.curve_score, self.curve_probability)

    def scores(self, features: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """[N, F], [N, K] → [N, 7]."""
        probed = ((tokens - self.token_mean) / self.token_scale).clip(-CLIP, CLIP) @ self.probe + self.probe_bias
        scores = np.empty((len(features), len(TARGETS)))
        for column in range(len(TARGETS)):
            own = np.concatenate([features, probed[:, column : column + 1]], axis=1)
            standard = ((own - self.mean[:, column]) / self.scale[:, column]).clip(-CLIP, CLIP)
            scores[:, column] = standard @ self.weights[:, column] + self.bias[column]
        return scores


def calibration_path(weights: str | Path) -> Path:
    return companion(weights, "confidence")


def save_calibration(path: str | Path, calibration: Calibration, facts: Facts | None = None) -> None:
    """Write it; with `facts` it says what it was made with.

    Raises:
        OutputError: it cannot be written.
    """
    arrays = {name: np.ascontiguousarray(getattr(calibration, name), np.float32) for name in _arrays()}
    document = {**calibration.facts, "weights": calibration.weights_hash, "features": list(FEATURES)}
    if facts is not None:
        document["depends on"] = dict(facts)
    write_atomically(path, save(arrays, metadata={FORMAT: json.dumps(document, sort_keys=True)}))


def read_calibration(path: str | Path) -> Calibration:
    """A file that `save_calibration` wrote.

    Raises:
        CheckpointError: missing, damaged, or of another version.
    """
    path = Path(path)
    try:
        with open_tensors(path, "np") as file:
            facts = json.loads((file.metadata() or {})[FORMAT])
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in _arrays()}
        if facts["features"] != list(FEATURES):
            raise ValueError("other features")
        calibration = Calibration(str(facts["weights"]), **arrays, facts=facts)
        calibration.scores(np.zeros((1, len(FEATURES))), np.zeros((1, len(calibration.token_mean))))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"the confidence calibration '{path}' is damaged or of another version ({' '.join(str(error).split())}); "
            "make it again with 'tokenface calibrate'"
        ) from error
    return calibration


def find_calibration(weights: Path, weights_hash: str, facts: Facts | None = None) -> Calibration | None:
    """The calibration beside some weights; None, and a line in the log, where it belongs to others or is damaged.

    Args:
        facts: what it must have been made with (`calibration_facts`), where it says so; None: ask for nothing but the
            weights.
    """
    path = calibration_path(weights)
    if not path.is_file():
        return None
    try:
        calibration = read_calibration(path)
    except CheckpointError as error:
        logger.warning("%s", error)
        return None
    if calibration.weights_hash != weights_hash:
        logger.warning("'%s' was made for other weights; make it again with 'tokenface calibrate %s'", path, weights)
        return None
    said = calibration.facts.get("depends on")
    if facts is not None and said is not None and said != dict(facts):
        changed = ", ".join(sorted(name for name in {*said, *facts} if said.get(name) != facts.get(name)))
        logger.warning(
            "'%s' was made with another %s; make it again with 'tokenface calibrate %s'", path, changed, weights
        )
        return None
    return calibration


def _arrays() -> list[str]:
    return [f.name for f in fields(Calibration) if f.name not in ("weights_hash", "facts")]


def calibrated_features(
    calibration: Calibration | None, features: ConfidenceFeatures, prediction: Prediction
) -> ConfidenceFeatures:
    """The features with a calibrated probability, if there is a calibration and the network gives uncertainty and
    tokens."""
    p = prediction
    if calibration is None or p.sigma is None or p.tokens is None:
        return features
    return calibration.calibrated(features, calibration_input(features, p.parameters, p.camera, p.sigma, p.tokens))


def calibration_input(
    found: ConfidenceFeatures, parameters: FaceParameters, camera: FaceCamera, sigma: float, tokens: np.ndarray | Tensor
) -> CalibrationInput:
    """Regression input of one face.

    Args:
        parameters: every tensor [size].  sigma: mean expected error of the landmarks, crop half-widths.
        tokens: [T, D].
    """
    yaw, pitch, _ = camera.angles
    apart, apart_known = _distance(found.agreement), found.presence > 0
    moved, moved_known = _distance(found.stability), found.stability < 1
    apart, moved = apart * apart_known, moved * moved_known
    vector = np.asarray(parameters.camera, np.float64)
    sure = math.log(max(sigma, 1e-4))
    features = (
        *(sure, sure**2),
        *(apart, apart_known, apart**2),
        *(moved, moved_known, moved**2),
        1 - found.detection,
        1 - found.presence,
        max(0.0, math.log(96 / max(camera.crop.size, 1.0))),
        _outside(camera),
        *(abs(yaw), yaw**2, abs(pitch)),
        *(_rms(values) for values in (parameters.shape, parameters.texture, parameters.expression)),
        float(np.linalg.norm(np.asarray(parameters.jaw))),
        float(np.hypot(*vector[4:6])),
        math.log(max(vector[0], 1e-3)),
    )
    return CalibrationInput(np.asarray(features, np.float64), np.asarray(tokens, np.float32).ravel())


def _distance(score: float) -> float:
    """Inverse of the Gaussian falloff of `confidence.confidence_features_of`: distance in its own scale."""
    return min(math.sqrt(max(-math.log(max(score, 1e-9)), 0.0)), FARTHEST)


def _outside(camera: FaceCamera) -> float:
    """Share of the crop that lies outside of the photo."""
    axis = (np.arange(GRID) + 0.5) * (2 / GRID) - 1
    points = camera.crop.to_photo(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    height, width = camera.photo_size
    inside = (points >= 0).all(1) & (points[:, 0] <= width) & (points[:, 1] <= height)
    return float(1 - inside.mean())


def _rms(values: np.ndarray | Tensor) -> float:
    array = np.asarray(values)
    return float(np.sqrt(np.square(array).mean())) if array.size else 0.0
