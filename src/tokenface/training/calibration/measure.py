"""Measures of a calibrated confidence: reliability, and separation of right predictions from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tokenface.evaluation.results import draw_figure
from tokenface.evaluation.statistics import BINS, RIGHT, auroc, expected_calibration_error
from tokenface.images.loading import collect_images
from tokenface.inference.calibration import Calibration
from tokenface.model import Reconstructor
from tokenface.parameters import COMPONENTS
from tokenface.training.calibration.fit import ON_THE_FACE
from tokenface.training.calibration.samples import KINDS, Samples, calibration_inputs

UNITS = ("mm", "mm", "°", "°", "grey levels", "grey levels")


def figures(calibration: Calibration, samples: Samples) -> dict[str, Any]:
    """Figures of a calibration on held-out samples."""
    scores = calibration.scores(samples.features, samples.tokens)
    probability = calibration.probability(scores)
    right = samples.nme < RIGHT
    good = right & (samples.kind == KINDS.index("found"))
    astray = ~right & (samples.kind == KINDS.index("astray"))
    wrong = {
        "wrong crops": astray | (samples.kind == KINDS.index("nobody")),
        "covered": samples.kind == KINDS.index("covered"),
        "all wrong": ~right,
    }
    faces = samples.nme < ON_THE_FACE
    expected, true = np.exp(scores[faces, 1:]), samples.errors[faces]
    return {
        "predictions": len(samples),
        "right": float(right.mean()),
        "expected calibration error": expected_calibration_error(probability, right),
        "Brier score": float(((probability - right) ** 2).mean()),
        "AUROC against good crops": {k: auroc(scores[good, 0], scores[rows, 0]) for k, rows in wrong.items()},
        "components": {
            name: {
                "unit": unit,
                "mean error": float(true[:, k].mean()),
                "mean expected": float(expected[:, k].mean()),
                "rank correlation": float(spearmanr(expected[:, k], true[:, k]).statistic),
            }
            for k, (name, unit) in enumerate(zip(COMPONENTS, UNITS, strict=True))
        },
    }


def photo_scores(model: Reconstructor, sources: Sequence[Path], wrong: bool, seed: int = 0) -> np.ndarray:
    """[N] scores of photos: of the largest face found, or, if wrong, of boxes put on pictures that show nobody."""
    assert model.calibration is not None
    calibration, random = model.calibration, np.random.default_rng(seed)
    images = [item.load() for source in sources for item in collect_images(source, recursive=True)]
    boxes = [_any_boxes(image, random) for image in images] if wrong else None
    predictions = calibration_inputs(model, images, boxes)
    inputs = [own for faces in predictions for _, own in (faces if wrong else faces[:1])]
    return calibration.scores(np.stack([s.features for s in inputs]), np.stack([s.tokens for s in inputs]))[:, 0]


def _any_boxes(image: np.ndarray, random: np.random.Generator, count: int = 3) -> np.ndarray:
    """[count, 4] squares somewhere on a picture, half to most of its shorter side; the first one in the middle."""
    height, width = image.shape[:2]
    side = min(height, width) * random.uniform(0.5, 0.9, count)
    centre = np.stack([random.uniform(side / 2, width - side / 2), random.uniform(side / 2, height - side / 2)], 1)
    centre[0] = width / 2, height / 2
    return np.concatenate([centre - side[:, None] / 2, centre + side[:, None] / 2], axis=1)


def draw_reliability(folder: Path, calibration: Calibration, samples: Samples) -> None:
    """`reliability.png`: stated against true share of right predictions, and how often each is stated; `expected.png`:
    expected against true error of every component, in eight equal parts."""
    scores = calibration.scores(samples.features, samples.tokens)
    probability, right = calibration.probability(scores), samples.nme < RIGHT
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    filled = [k for k in range(BINS) if (place == k).any()]

    def reliability(axes) -> None:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        stated, true = ([values[place == k].mean() for k in filled] for values in (probability, right))
        counts = np.array([(place == k).sum() for k in filled])
        spread = [1.96 * np.sqrt(max(t * (1 - t), 0.02) / n) for t, n in zip(true, counts, strict=True)]
        axes.errorbar(stated, true, yerr=spread, marker="o", capsize=3)
        axes.bar([(k + 0.5) / BINS for k in filled], counts / len(samples), 0.9 / BINS, alpha=0.2, color="tab:blue")
        for x, y, n in zip(stated, true, counts, strict=True):
            axes.annotate(str(n), (x, y), textcoords="offset points", xytext=(6, -10), fontsize=7)
        title = f"expected calibration error {expected_calibration_error(probability, right):.3f}"
        axes.set(
            xlabel="stated confidence", ylabel="share of right predictions", xlim=(0, 1), ylim=(0, 1.02), title=title
        )

    faces = samples.nme < ON_THE_FACE
    expected, true = np.exp(scores[faces, 1:]), samples.errors[faces]

    def components(axes) -> None:
        for k, name in enumerate(COMPONENTS):
            parts = np.array_split(np.argsort(expected[:, k], kind="stable"), 8)
            x, y = ([values[part, k].mean() / true[:, k].mean() for part in parts] for values in (expected, true))
            axes.plot(x, y, marker="o", markersize=3, label=f"{name} (mean {true[:, k].mean():.2f} {UNITS[k]})")
        ticks = [0.25, 0.5, 1, 2, 4]
        axes.plot(ticks, ticks, color="grey", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="expected error / mean error", ylabel="true error / mean error")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
        axes.legend(fontsize=7)

    draw_figure(folder / "reliability.png", reliability, width=5.2, height=4.6)
    draw_figure(folder / "expected.png", components, width=5.2, height=4.6)
