"""A calibrated confidence for some weights: a small file beside theirs, fitted by `tokenface calibrate`."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tokenface.core.files import write_atomically
from tokenface.core.fingerprint import Facts
from tokenface.errors import CheckpointError
from tokenface.inference.confidence import Evidence
from tokenface.inference.signs import FEATURES, Signs
from tokenface.parameters import COMPONENTS
from tokenface.weights import companion

FORMAT = "tokenface-confidence-1"
ANSWERS = ("probability", *COMPONENTS)
"""Columns of the scores: what is judged."""
CLIP = 4.0
"""Standard deviations beyond which a sign says no more: pictures unlike all that were fitted must not run away."""

logger = logging.getLogger("tokenface")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Two linear stages and a monotone curve. F features, K numbers of the tokens, 1 + 6 answers.

    token_mean, token_scale [K]; probe [K, 7], probe_bias [7]: what the tokens alone say of every answer.
    mean, scale [F + 1]; weights [F + 1, 7], bias [7]: the features and the answer's own probe, to its score.
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

    def judge(self, evidence: Evidence, signs: Signs) -> Evidence:
        """The evidence with its probability and expected errors."""
        if len(signs.tokens) != len(self.token_mean):
            return evidence
        scores = self.scores(signs.features[None], signs.tokens[None])[0]
        probability = float(self.probability(scores[None])[0])
        expected = {
            f"expected_{name}": float(np.exp(score)) for name, score in zip(COMPONENTS, scores[1:], strict=True)
        }
        return replace(evidence, probability=probability, **expected)

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """[N, 7] scores → [N] probability that the answer is right."""
        return np.interp(scores[:, 0], self.curve_score, self.curve_probability)

    def scores(self, features: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """[N, F], [N, K] → [N, 7]."""
        probed = ((tokens - self.token_mean) / self.token_scale).clip(-CLIP, CLIP) @ self.probe + self.probe_bias
        scores = np.empty((len(features), len(ANSWERS)))
        for column in range(len(ANSWERS)):
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
        with safe_open(str(path), framework="np") as file:
            facts = json.loads((file.metadata() or {})[FORMAT])
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in _arrays()}
        if facts["features"] != list(FEATURES):
            raise ValueError("other signs")
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
