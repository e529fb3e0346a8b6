"""Validation of the shipped weights' training against images seen, as one picture for the documentation.

    python scripts/training_curve.py [--add RUN_FOLDER --images-before N --batch 32] [--output PICTURE]

The figures live in docs/training_curve.csv; `--add` appends a run's `validation.csv` to them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURES = DOCS / "training_curve.csv"
COLUMNS = ("images", "photo_nme", "synthetic_nme", "neutral_ratio", "shape_rms")


def read(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def add_run(validation: Path, images_before: int, batch: int) -> None:
    """Append a run's validation to the figures, in training images instead of steps."""
    rows = read(FIGURES) + [{**row, "images": images_before + row["step"] * batch} for row in read(validation)]
    with FIGURES.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: f"{row[key]:.6g}" for key in COLUMNS} for row in rows)


def draw(rows: list[dict[str, float]], output: Path) -> None:
    """Landmark errors on the left, the neutral shape's ratio to the mean head on the right."""
    images = [row["images"] / 1000 for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(images, [row["photo_nme"] for row in rows], "o-", markersize=3, label="real photos, people kept out")
    left.plot(images, [row["synthetic_nme"] for row in rows], "o-", markersize=3, label="rendered people kept out")
    left.set(ylabel="68 landmarks, % of √box", ylim=(2, 7))
    left.legend(frameon=False)
    right.plot(images, [row["neutral_ratio"] for row in rows], "o-", markersize=3, color="tab:green")
    right.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    right.set(ylabel="neutral shape's error / mean head's")
    for axes in (left, right):
        axes.set_xlabel("training images, thousands")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, help="run folder whose validation.csv continues the curve")
    parser.add_argument("--images-before", type=int, default=0, help="training images before that run")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path, default=DOCS / "images" / "training_curve.png")
    arguments = parser.parse_args()
    if arguments.add:
        add_run(arguments.add / "validation.csv", arguments.images_before, arguments.batch)
    draw(read(FIGURES), arguments.output)


if __name__ == "__main__":
    main()
