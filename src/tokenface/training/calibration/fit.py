"""Fitting of a `Calibration`: cross-fitted ridge and logistic regression, then a monotone curve."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from tokenface.evaluation.statistics import RIGHT
from tokenface.inference.calibration import CLIP, FEATURES, Calibration
from tokenface.training.calibration.samples import Samples

FOLDS = 5
ON_THE_FACE = 0.2
"""Expected errors are those of predictions that lie on a face at all, roughly: landmark errors below this share."""
DIRECTIONS = 160
"""Principal directions of the tokens that the probes take."""
PROBE_RIDGE, RIDGE = 300.0, 3.0
"""Penalty on the weights of the tokens' probes, and of the features, in samples."""
LEAST_ERROR = 1e-3
BINS = 12
HIDEABLE = {"apart": ("apart", "apart known", "apart²"), "moved": ("moved", "moved known", "moved²")}
"""What a caller may not know: a video has no second pass, and no mesh in most frames."""
HIDDEN = 0.25
"""Share of the samples from which each of them is taken away, so that its absence has a meaning."""


def fit(samples: Samples, weights_hash: str, seed: int = 0) -> Calibration:
    """A calibration of some weights from their predictions.

    The probes on the tokens are cross-fitted: the second stage learns from probes that have not seen its sample, so
    it trusts them as far as they can be trusted on new pictures. The curve is fitted on cross-fitted scores likewise.
    """
    random = np.random.default_rng(seed)
    features, right = hide(samples.features, random), (samples.nme < RIGHT).astype(float)
    logs = np.log(np.maximum(samples.errors, LEAST_ERROR))
    logs[samples.nme >= ON_THE_FACE] = np.nan
    token_mean, token_scale = samples.tokens.mean(0), np.maximum(samples.tokens.std(0), 1e-6)
    tokens = ((samples.tokens - token_mean) / token_scale).clip(-CLIP, CLIP)
    axes = np.linalg.eigh(tokens.T @ tokens)[1][:, ::-1][:, :DIRECTIONS]  # [K, D]
    tokens = tokens @ axes
    fold = random.permutation(len(samples)) % FOLDS
    targets = [right, *logs.T]
    probes, columns = [], []
    for place, target in enumerate(targets):
        known = np.isfinite(target)
        learn = _logistic if place == 0 else _ridge
        own = np.zeros(len(samples))
        for f in range(FOLDS):
            train = known & (fold != f)
            w, b = learn(tokens[train], target[train], PROBE_RIDGE)
            own[fold == f] = tokens[fold == f] @ w + b
        probes.append(learn(tokens[known], target[known], PROBE_RIDGE))
        columns.append(own)
    stages, curve = [], (np.zeros(1), np.zeros(1))
    for place, (target, probed) in enumerate(zip(targets, columns, strict=True)):
        known = np.isfinite(target)
        inputs = np.concatenate([features, probed[:, None]], axis=1)
        mean, scale = inputs[known].mean(0), np.maximum(inputs[known].std(0), 1e-6)
        standard = ((inputs - mean) / scale).clip(-CLIP, CLIP)
        learn = _logistic if place == 0 else _ridge
        w, b = learn(standard[known], target[known], RIDGE)
        score = np.zeros(len(samples))
        for f in range(FOLDS):
            train = known & (fold != f)
            fold_w, fold_b = learn(standard[train], target[train], RIDGE)
            score[fold == f] = standard[fold == f] @ fold_w + fold_b
        if place == 0:
            curve = _curve(score, right)
        else:  # the mean of an error is above the exponential of its logarithm's mean
            b = b + np.log(np.exp(target[known]).mean() / np.exp(score[known]).mean())
        stages.append((mean, scale, w, b))
    mean, scale, weights, bias = (np.stack(parts, axis=-1) for parts in zip(*stages, strict=True))
    probe, probe_bias = (np.stack(parts, axis=-1) for parts in zip(*probes, strict=True))
    probe = axes @ probe
    return Calibration(
        weights_hash, token_mean, token_scale, probe, probe_bias, mean, scale, weights, bias, *curve,
        facts={"right": RIGHT, "samples": len(samples)},
    )  # fmt: skip


def hide(features: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A copy in which some rows lack what not every caller knows."""
    features = features.copy()
    for names in HIDEABLE.values():
        rows = random.random(len(features)) < HIDDEN
        for name in names:
            features[rows, FEATURES.index(name)] = 0
    features[features[:, FEATURES.index("apart known")] == 0, FEATURES.index("absence")] = 1
    return features


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    mean = y.mean()
    centre = x.mean(0)
    moved = x - centre
    w = np.linalg.solve(moved.T @ moved + penalty * np.eye(x.shape[1]), moved.T @ (y - mean))
    return w, float(mean - centre @ w)


def _logistic(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    penalty = penalty / 4  # a logistic's curvature is at most a quarter

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = values[:-1], values[-1]
        score = x @ w + b
        loss = np.logaddexp(0, score).sum() - y @ score + penalty / 2 * w @ w
        gap = expit(score) - y
        return float(loss), np.append(x.T @ gap + penalty * w, gap.sum())

    found = minimize(cost, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return found[:-1], float(found[-1])


def _curve(score: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of a rising, piecewise linear curve from score to probability: means of equal bins, made monotone."""
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, BINS)
    x = np.array([score[part].mean() for part in parts])
    # one imagined success and failure in every bin: no certainty from a few dozen samples
    y = np.array([(right[part].sum() + 0.5) / (len(part) + 1) for part in parts])
    return x, isotonic_regression(y).x
