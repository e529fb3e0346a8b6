"""Evaluation of a tracked clip by image error, jitter and lag, with several trackers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tokenface.core.files import read_text, write_atomically
from tokenface.errors import ConfigError, EvaluationError
from tokenface.evaluation.open_run import rounded
from tokenface.evaluation.results import draw_figure
from tokenface.evaluation.video_metrics import error_curve, photometric_error, track_jitter, track_lag
from tokenface.geometry.crop import extract
from tokenface.render.renderer import Renderer
from tokenface.video.temporal_weights import choose_temporal

if TYPE_CHECKING:
    from tokenface.model import Reconstructor

WAYS: dict[str, dict[str, str]] = {
    "per-frame": {"temporal": "off", "smooth": "none"},
    "one-euro": {"temporal": "off", "smooth": "one-euro"},
    "causal": {"temporal": "causal", "smooth": "none"},
    "centred": {"temporal": "centred", "smooth": "none"},
}
"""Arguments of `Reconstructor.track`; 'per-frame' is what lags are measured against."""
PIXELS = 224


@dataclass(frozen=True)
class ClipReport:
    """rows: way → figures.  curves: way → photometric error of every frame, NaN where no face was followed."""

    clip: str
    rows: dict[str, dict[str, float]]
    curves: dict[str, np.ndarray]


def measure_clip(model: Reconstructor, clip: str | Path, ways: Sequence[str], end: float | None = None) -> ClipReport:
    """Follow the largest face of a clip in every way, and as `track` does by itself: with the centred temporal
    transformer, where the weights have one.

    Raises:
        ConfigError: an unknown way.
        EvaluationError: no face in the clip.
    """
    usual = [] if choose_temporal(model, "auto") is None else ["centred"]
    ways = list(dict.fromkeys(["per-frame", *ways, *usual]))
    if unknown := [way for way in ways if way not in WAYS]:
        raise ConfigError(f"no way '{unknown[0]}' to follow a face; there are {', '.join(WAYS)}")
    rows, curves, reference = {}, {}, None
    for way in ways:
        vertices, points, present, errors = _follow(model, clip, WAYS[way], end)
        if not present.any():
            raise EvaluationError(f"no face was followed in '{clip}'")
        reference = points if reference is None else reference
        moved = track_jitter(vertices, points, present)
        both = present & np.isfinite(reference).all((1, 2))
        curves[way] = errors
        rows[way] = {
            "photometric": error_curve(list(errors))["mean"],
            "photometric p95": error_curve(list(errors))["p95"],
            "jitter mm": moved.vertices,
            "jitter px": moved.landmarks,
            "lag": track_lag(points[both], reference[both]),
            "found": float(present.mean()),
        }
    return ClipReport(Path(clip).name, rows, curves)


def with_results(report: ClipReport, others: Mapping[str, Path]) -> ClipReport:
    """The report with other methods' picture errors per frame beside ours.

    Args:
        others: method → CSV with a column `frame` and then one of errors, grey levels, as in `frames.csv`; empty where
            there is none.
    Raises:
        EvaluationError: unreadable, or a frame that the clip does not have.
    """
    rows, curves = dict(report.rows), dict(report.curves)
    length = len(next(iter(report.curves.values())))
    for name, path in others.items():
        errors = np.full(length, np.nan)
        try:
            table = csv.reader(io.StringIO(read_text(path), newline=""))
            if next(table)[0] != "frame":
                raise ValueError("the first column is not 'frame'")
            for row in table:
                frame = int(row[0])
                if not 0 <= frame < length:
                    raise ValueError(f"frame {frame}, and the clip has {length}")
                errors[frame] = float(row[1]) if row[1] else np.nan
        except (OSError, ValueError, IndexError, StopIteration) as error:
            text = f"'{path}' is no table of errors per frame ({error}); expected frame,error"
            raise EvaluationError(text) from error
        curves[name] = errors
        curve = error_curve(list(errors))
        nothing = dict.fromkeys(("jitter mm", "jitter px", "lag"), float("nan"))
        found = float(np.isfinite(errors).mean())
        rows[name] = {"photometric": curve["mean"], "photometric p95": curve["p95"], **nothing, "found": found}
    return ClipReport(report.clip, rows, curves)


def write_clip(report: ClipReport, folder: Path) -> Path:
    """`summary.json`, `frames.csv` and `curve.png`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["frame", *report.curves])
    for frame, values in enumerate(zip(*report.curves.values(), strict=True)):
        table.writerow([frame, *("" if not np.isfinite(v) else f"{v:.4f}" for v in values)])
    write_atomically(folder / "frames.csv", text.getvalue().encode())
    document = {"benchmark": "video", "clip": report.clip, "ways": report.rows}
    write_atomically(folder / "summary.json", (json.dumps(rounded(document), indent=2) + "\n").encode())

    def draw(axes) -> None:
        for way, errors in report.curves.items():
            axes.plot(errors, label=way, linewidth=1)
        axes.set(xlabel="frame", ylabel="photometric error, grey levels", title=report.clip)
        axes.grid(alpha=0.3)
        axes.legend()

    return draw_figure(folder / "curve.png", draw, width=7.2, height=3.2)


@torch.no_grad()
def _follow(
    model: Reconstructor, clip: str | Path, options: dict[str, Any], end: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices as turned on the frame [T, V, 3] (metres), points [T, 68, 2] (pixels), present [T], errors [T]."""
    renderer = Renderer(model.head)
    weights = renderer.face_weights()
    vertices: list[np.ndarray | None] = []
    points: list[np.ndarray] = []
    errors: list[float] = []
    for frame in model.track(clip, people=1, end=end, **options):
        if not frame.faces:
            vertices.append(None)
            points.append(np.full((68, 2), np.nan))
            errors.append(float("nan"))
            continue
        face = frame.faces[0]
        vertices.append((face.vertices @ face.camera.rotation.T).astype(np.float32))
        points.append(face.landmarks)
        crop = extract(frame.image, [face.crop], PIXELS)[0].permute(1, 2, 0).numpy()
        batch = type(face.parameters)(**{name: value[None] for name, value in face.parameters.items()})
        drawn = renderer.render(batch, PIXELS, vertex_weights=weights)
        picture = drawn.image[0].clamp(0, 1).permute(1, 2, 0).numpy()
        errors.append(photometric_error(picture, crop, drawn.weight[0].numpy()))
    present = np.array([v is not None for v in vertices], dtype=bool)
    blank = np.full((model.head.vertex_count, 3), np.nan, np.float32)
    return (
        np.stack([blank if v is None else v for v in vertices]) if vertices else np.empty((0, 0, 3)),
        np.stack(points) if points else np.empty((0, 68, 2)),
        present,
        np.array(errors),
    )
