"""Results of an evaluation: a row per image, tables, curves, meshes coloured by error."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from tokenface.core.files import write_atomically
from tokenface.core.fingerprint import remove_stale
from tokenface.errors import EvaluationError
from tokenface.evaluation.batch import Outcome
from tokenface.evaluation.mesh_files import read_mesh
from tokenface.evaluation.predict import ply_bytes
from tokenface.evaluation.scan_to_mesh import REGIONS, Protocol
from tokenface.evaluation.statistics import Figures, cumulative_curve, figures

COLOUR_END = 5.0
"""Millimetres that are drawn in the last colour."""


@dataclass(frozen=True)
class Results:
    """All outcomes of one method under one protocol.

    figures: under "all", and under each challenge.  regions: region → mean distance, millimetres.
    """

    method: str
    protocol: Protocol
    outcomes: tuple[Outcome, ...]
    figures: dict[str, Figures]
    regions: dict[str, float]

    @property
    def measured(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.error is None]

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def worst(self, count: int) -> list[Outcome]:
        """The measured images with the largest mean distance, the largest first."""
        return sorted(self.measured, key=lambda outcome: -float(outcome.values.mean()))[:count]


def summarise(method: str, protocol: Protocol, outcomes: Sequence[Outcome]) -> Results:
    """Tables of all images, of every challenge, and of every region of the face."""
    outcomes = tuple(sorted(outcomes, key=lambda outcome: outcome.job.name))
    table = {"all": _figures_of(outcomes)}
    for challenge in sorted({outcome.job.challenge for outcome in outcomes} - {""}):
        table[challenge] = _figures_of([outcome for outcome in outcomes if outcome.job.challenge == challenge])
    measured = [outcome for outcome in outcomes if outcome.error is None]
    regions = {}
    for number, region in enumerate(REGIONS):
        parts = [outcome.values[outcome.regions == number] for outcome in measured]
        together = np.concatenate(parts) if parts else np.empty(0)
        regions[region] = float(together.mean()) if len(together) else float("nan")
    return Results(method, protocol, outcomes, table, regions)


def write_results(results: Results, folder: Path, facts: Mapping[str, object], worst: int = 5) -> dict[str, Path]:
    """Write `images.csv`, `summary.json`, `curve.csv`, `curve.png` and `worst/`; returns what was written, by kind.
    What an earlier evaluation left there of these is removed.

    Args:
        facts: further entries of the summary (command, weights, seconds).
    Raises:
        OutputError: a file cannot be written.
    """
    written = {
        "images": write_atomically(folder / "images.csv", _images_csv(results).encode()),
        "summary": write_atomically(folder / "summary.json", _summary_json(results, facts).encode()),
    }
    if results.measured:
        edges, share = cumulative_curve(outcome.values for outcome in results.measured)
        rows = "\n".join(f"{edge:.4g},{value:.4f}" for edge, value in zip(edges, share, strict=True))
        written["curve"] = write_atomically(folder / "curve.csv", f"millimetres,per cent\n{rows}\n".encode())
        written["plot"] = draw_curves(folder / "curve.png", {results.method: (edges, share)}, results.protocol.label)
    for rank, outcome in enumerate(results.worst(worst)):
        written[f"worst {rank}"] = write_error_mesh(folder / "worst", rank, outcome)
    remove_stale(folder / "worst", "[0-9][0-9]_*.ply", written.values())
    remove_stale(folder, "curve.*", written.values())
    return written


def draw_curves(path: Path, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Path:
    """Cumulative error curves of several methods as a PNG."""

    def draw(axes) -> None:
        for label, (edges, share) in curves.items():
            axes.plot(edges, share, label=label)
        axes.set(xlim=(0, edges[-1]), ylim=(0, 100), xlabel="distance, mm", ylabel="per cent of distances", title=title)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")

    return draw_figure(path, draw)


def draw_figure(path: Path, draw: Callable[..., None], width: float = 6.4, height: float = 4.2) -> Path:
    """A figure of one plot, written as PNG."""
    return write_atomically(path, figure_png(draw, width, height))


def figure_png(draw: Callable[..., None], width: float, height: float, columns: int = 1) -> bytes:
    """A matplotlib figure as PNG, without touching the caller's settings of matplotlib; `draw` gets its axes."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EvaluationError("plots need matplotlib; install it with: pip install 'tokenface[evaluate]'") from error

    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    draw(*np.atleast_1d(figure.subplots(1, columns)))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def write_error_mesh(folder: Path, rank: int, outcome: Outcome) -> Path:
    """The scan's face as a PLY coloured from blue (0 mm) to dark red (COLOUR_END), in the scan's space."""
    assert outcome.kept is not None
    scan = read_mesh(outcome.job.scan)
    place = np.full(len(scan.vertices), -1, dtype=np.int64)
    place[outcome.kept] = np.arange(len(outcome.kept))
    faces = place[scan.faces]
    name = f"{rank:02d}_{outcome.job.name.replace('/', '_').replace(chr(92), '_')}"[:120]
    data = ply_bytes(scan.vertices[outcome.kept], faces[(faces >= 0).all(1)], error_colours(outcome.values))
    return write_atomically(folder / f"{name}.ply", data)


def error_colours(distances: np.ndarray, end: float = COLOUR_END) -> np.ndarray:
    """[P] millimetres → [P, 3] uint8 RGB of the 'turbo' scale."""
    level = np.clip(distances / end * 255, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(level[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1])


def plain_number(value: float, digits: int = 5) -> float | None:
    """A rounded number for JSON, None for what is not one."""
    return None if math.isnan(value) else round(value, digits)


def _figures_of(outcomes: Sequence[Outcome]) -> Figures:
    measured = [outcome for outcome in outcomes if outcome.error is None]
    people = [outcome.job.person for outcome in measured]
    return figures([outcome.values for outcome in measured], people, len(outcomes) - len(measured))


def _images_csv(results: Results) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["image", "person", "challenge", "median", "mean", "std", "points"]
        + [f"mean {region}" for region in REGIONS]
        + ["rounds", "restarted", "seconds", "error"]
    )
    for outcome in results.outcomes:
        row: list[object] = [outcome.job.name, outcome.job.person, outcome.job.challenge]
        if outcome.error is None:
            d = outcome.values.astype(np.float64)
            row += [f"{value:.5f}" for value in (np.median(d), d.mean(), d.std())] + [len(d)]
            for number in range(len(REGIONS)):
                part = d[outcome.regions == number]
                row.append(f"{part.mean():.5f}" if len(part) else "")
            row += [outcome.rounds, int(outcome.restarted), f"{outcome.seconds:.3f}", ""]
        else:
            row += [""] * (7 + len(REGIONS)) + [outcome.error]
        table.writerow(row)
    return text.getvalue()


def _summary_json(results: Results, facts: Mapping[str, object]) -> str:
    document = {
        "method": results.method,
        "protocol": {**asdict(results.protocol), "label": results.protocol.label},
        "unit": "millimetres",
        "figures": {
            name: {**{key: _plain(value) for key, value in asdict(row).items()}, "coverage": plain_number(row.coverage)}
            for name, row in results.figures.items()
        },
        "regions": {name: plain_number(value) for name, value in results.regions.items()},
        "restarted": [outcome.job.name for outcome in results.measured if outcome.restarted],
        "failures": {outcome.job.name: outcome.error for outcome in results.failures},
        **facts,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _plain(value: object) -> object:
    return plain_number(value) if isinstance(value, float) else value
